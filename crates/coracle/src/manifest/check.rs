//! Collects what is wrong with an object's fields, each at its place.

use super::Object;
use super::node::Node;
use super::typed::Wrong;

/// See the module.
pub(super) struct Check<'o> {
    node: &'o Node,
    wrongs: &'o mut Vec<Wrong>,
}

impl<'o> Check<'o> {
    /// For the fields of an object.
    pub(super) fn of(object: &'o mut Object<'_>) -> Check<'o> {
        Check {
            node: &object.node,
            wrongs: &mut object.wrongs,
        }
    }

    /// A field is wrong.
    pub(super) fn wrong(&mut self, field: &str, message: &str) {
        self.wrongs.push(Wrong {
            at: self.node.locate(field),
            field: field.to_owned(),
            message: message.to_owned(),
        });
    }

    /// A field is not there, or empty.
    pub(super) fn missing(&mut self, field: &str, help: &str) {
        self.wrong(field, &format!("missing; {help}"));
    }

    /// A text has to be there.
    pub(super) fn required(&mut self, field: &str, text: &str, help: &str) {
        if text.is_empty() {
            self.missing(field, help);
        }
    }

    /// A text has to follow a rule.
    pub(super) fn named(
        &mut self,
        field: &str,
        text: &str,
        rule: impl Fn(&str) -> Result<(), String>,
    ) {
        if let Err(message) = rule(text) {
            self.wrong(field, &message);
        }
    }

    /// A word has to be one of the API's, if it is there.
    pub(super) fn one_of(&mut self, field: &str, word: Option<&str>, known: &[&str]) {
        if let Some(word) = word
            && !known.contains(&word)
        {
            let message = format!("{word:?} is none of {}", known.join(", "));
            self.wrong(field, &message);
        }
    }

    /// A number has to be within bounds, if it is there.
    pub(super) fn within(&mut self, field: &str, number: Option<i64>, least: i64, most: i64) {
        if let Some(number) = number
            && !(least..=most).contains(&number)
        {
            let message = match most {
                i64::MAX => format!("{number} is too small; use {least} or more"),
                _ => format!("{number} is out of bounds; use {least} to {most}"),
            };
            self.wrong(field, &message);
        }
    }
}
