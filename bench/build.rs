//! Links the benchmarks at a fixed address, as coracle is: the bare engine is a process of this binary, and what the loader
//! does to a larger one must not count for it. See docs/performance.md.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Where the C library is linked in (musl), a fixed address is another kind of linking.
    if std::env::var("CARGO_CFG_TARGET_ENV").as_deref() == Ok("gnu") {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
