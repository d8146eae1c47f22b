//! The list of guests as another crate's tests use it.

use guests::Guest;

#[test]
fn the_macro_names_every_guest_once() {
    let mut named = Vec::new();
    macro_rules! name {
        ($test:ident $guest:ident) => {
            named.push((stringify!($test), Guest::$guest));
        };
    }
    guests::for_each_guest!(name);
    assert_eq!(
        named.iter().map(|(_, guest)| *guest).collect::<Vec<_>>(),
        Guest::ALL
    );
    assert!(named.contains(&("rust_hello_p2", Guest::RustHelloP2)));
    assert!(named.contains(&("c_trap", Guest::CTrap)));
}
