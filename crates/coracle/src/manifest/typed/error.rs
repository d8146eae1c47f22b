//! Why a value is not of its type, in words of YAML.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use super::super::node::{Node, Step, Value};
use super::Path;

/// Why an object can't be read; the first reader that sees it says where.
#[derive(Debug)]
pub(super) struct Error {
    /// What is wrong.
    pub(super) message: String,
    /// Where, once that is known.
    pub(super) steps: Option<Vec<Step>>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Error {
        Error {
            message: message.to_string(),
            steps: None,
        }
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Error {
        Error::custom(expected_words(&expected.to_string()))
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Error {
        Error::custom(expected_words(&expected.to_string()))
    }
}

/// What serde and the API's types expect, in words of YAML. The first word marks it as such; what
/// was found is added where the node is known.
fn expected_words(expected: &str) -> String {
    let words = match expected {
        "i32" => "a whole number from -2147483648 to 2147483647",
        "i64" | "u64" | "isize" => "a whole number",
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "f64" => "a number",
        "a boolean" => "true or false",
        "a string" => "a text",
        "a map" => "a mapping",
        "a sequence" => "a list",
        "Quantity" => "an amount such as 500m, 1.5 or 64Mi",
        "IntOrString" => "a number or a name",
        "a base64-encoded string" => "base64 text",
        other => return format!("{EXPECTED}{}", article(other)),
    };
    format!("{EXPECTED}{words}")
}

const EXPECTED: &str = "expected ";

/// A type of the API is a mapping to who writes it.
fn article(expected: &str) -> String {
    let is_type = expected.chars().next().is_some_and(char::is_uppercase);
    match is_type {
        true => format!("a mapping ({expected})"),
        false => expected.to_owned(),
    }
}

/// Says where an error is, if that is not known yet.
pub(super) fn placed(mut error: Error, node: &Node, path: &Path<'_>, secret: bool) -> Error {
    if error.steps.is_some() {
        return error;
    }
    error.steps = Some(path.steps());
    if error.message.starts_with(EXPECTED) {
        let found = node.described(secret);
        error.message = format!("{}, found {found}", error.message);
        if error.message.starts_with("expected a text, ") {
            error.message.push_str(match node.value {
                Value::Bool(true) => ", which is also what yes, on and y are without quotes",
                Value::Bool(false) => ", which is also what no, off and n are without quotes",
                _ => "",
            });
            if !matches!(node.value, Value::List(_) | Value::Map(_)) {
                error.message.push_str("; put it in quotes");
            }
        }
    }
    error
}
