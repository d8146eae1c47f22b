//! Links the binary at a fixed address, so that it starts sooner. Placed anywhere, it has tens of thousands
//! of pointers that the loader moves at each start, in pages that are copied for it: that was more than
//! half of what `coracle --version` costs, and `coracle run` starts with it.
//!
//! What is given up is that the executable's own code lies elsewhere each time. Libraries, heap, stacks, guests'
//! memories and their compiled code still do. See docs/performance.md.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Where the C library is linked in (musl), a fixed address is another kind of linking.
    if std::env::var("CARGO_CFG_TARGET_ENV").as_deref() == Ok("gnu") {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
