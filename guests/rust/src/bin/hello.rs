//! Says hello.
//!
//! Worlds: p1, p2

fn main() {
    println!("hello from Rust");
}
