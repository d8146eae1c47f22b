//! Exits with the code that it is given.
//!
//! Worlds: p1, p2

fn main() {
    let code = rust_guests::number(1, 0);
    println!("exiting with {code}");
    std::process::exit(code as i32);
}
