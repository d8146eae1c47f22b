//! A YAML document as a tree in which every value knows its line and column.
//!
//! Must not know: what the document means.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::problem::Position;

/// A file of this many bytes is read, and none that is larger: an object of the API has at most
/// 1.5 MiB (`etcd`'s limit of a request).
pub(super) const FILE_MAX: usize = 16 << 20;
/// So many values may a file have, those that its anchors repeat included.
const VALUES_MAX: usize = 500_000;
/// So deep may they be nested; a Pod's own fields are less than 20 deep.
const DEPTH_MAX: usize = 64;
/// So many times may an anchor's content be repeated, counted in values.
const REPEATED_MAX: usize = 50_000;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Where it begins.
    pub(super) at: Position,
    /// What it is.
    pub(super) value: Value,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// `null`, `~` or nothing at all.
    Null,
    /// `true`, `no`, …
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A text.
    Text(String),
    /// `[a, b]`
    List(Vec<Node>),
    /// `{a: b}`, in the file's order, each key once.
    Map(Vec<(Key, Node)>),
    /// What was found wrong, is told, and is taken for anything from then on.
    Hole,
}

/// A mapping's key and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// Where it begins.
    pub(super) at: Position,
    /// Its text.
    pub(super) text: String,
}

/// One step from a node to one below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// To what a mapping has under this key.
    Field(String),
    /// To an element of a list.
    Index(usize),
}

/// Reads every document of a file that is not empty.
///
/// # Errors
/// Where and why it is no YAML, or passes a limit.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, (Option<Position>, String)> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            max_nodes: VALUES_MAX,
            max_events: VALUES_MAX * 4,
            max_documents: 10_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: REPEATED_MAX,
            max_replay_stack_depth: 16,
        },
        // As kubectl's YAML has it: `defaultMode: 0400` is 256.
        legacy_octal_numbers: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let at = error.location().map(position);
        (at, without_place(&error.without_snippet().to_string()))
    })
}

/// The parser's message ends with where it was, which is told in front.
fn without_place(message: &str) -> String {
    let cut = message.find(" at line ").unwrap_or(message.len());
    message
        .get(..cut)
        .unwrap_or(message)
        .trim_end_matches([':', ',', ' '])
        .to_owned()
}

fn position(at: Location) -> Position {
    Position {
        line: at.line(),
        column: at.column(),
    }
}

impl Node {
    /// What a mapping has under a key; `None` also for what is no mapping.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries
                .iter()
                .find(|(known, _)| known.text == key)
                .map(|(_, node)| node),
            _ => None,
        }
    }

    /// Its text, if it is one.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The elements of a list.
    pub(super) fn list(&self) -> &[Node] {
        match &self.value {
            Value::List(list) => list,
            _ => &[],
        }
    }

    /// What is below, by steps.
    pub(super) fn at_mut(&mut self, steps: &[Step]) -> Option<&mut Node> {
        let Some((first, rest)) = steps.split_first() else {
            return Some(self);
        };
        let next = match (&mut self.value, first) {
            (Value::Map(entries), Step::Field(key)) => entries
                .iter_mut()
                .find(|(known, _)| known.text == *key)
                .map(|(_, node)| node),
            (Value::List(list), Step::Index(index)) => list.get_mut(*index),
            _ => None,
        };
        next?.at_mut(rest)
    }

    /// Where a field such as `spec.containers[0].image` stands, or else the nearest that there is
    /// above it.
    pub(super) fn locate(&self, field: &str) -> Position {
        let mut node = self;
        for step in steps(field) {
            let next = match &step {
                Step::Field(key) => node.get(key),
                Step::Index(index) => node.list().get(*index),
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node.at
    }

    /// In words, for `expected …, found …`. `secret`: what it says is nobody's business.
    pub(super) fn described(&self, secret: bool) -> String {
        match &self.value {
            Value::Null | Value::Hole => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Int(value) => format!("the number {value}"),
            Value::Float(value) => format!("the number {value}"),
            Value::Text(_) if secret => "a text".to_owned(),
            Value::Text(text) if text.chars().count() > 60 => {
                let cut: String = text.chars().take(60).collect();
                format!("{:?}", format!("{cut}…"))
            }
            Value::Text(text) => format!("{text:?}"),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        }
    }
}

/// The steps of `spec.resources.limits[nvidia.com/gpu]`: what is in brackets is an index, or else a key.
fn steps(field: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = field;
    while !rest.is_empty() {
        if let Some((inside, after)) = rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
            steps.push(match inside.parse() {
                Ok(index) => Step::Index(index),
                Err(_) => Step::Field(inside.to_owned()),
            });
            rest = after.strip_prefix('.').unwrap_or(after);
            continue;
        }
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if !name.is_empty() {
            steps.push(Step::Field(name.to_owned()));
        } else if after.len() == rest.len() && !after.starts_with('.') {
            break;
        }
        rest = after.strip_prefix('.').unwrap_or(after);
    }
    steps
}

/// Steps as a field's path.
pub(super) fn field(steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps {
        match step {
            Step::Index(index) => text.push_str(&format!("[{index}]")),
            Step::Field(key) if key.contains(['.', '/', '[']) => {
                text.push_str(&format!("[{key}]"));
            }
            Step::Field(key) if text.is_empty() => text.push_str(key),
            Step::Field(key) => text.push_str(&format!(".{key}")),
        }
    }
    text
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Node {
            at: position(spanned.referenced),
            value: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(Values)
    }
}

struct Values;

impl<'de> Visitor<'de> for Values {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of YAML")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(match i64::try_from(value) {
            Ok(value) => Value::Int(value),
            // No field of the API is larger; a quantity is read to the digit that a float has.
            Err(_) => Value::Float(value as f64),
        })
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Float(value as f64))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(Value::Float(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_bytes<E: serde::de::Error>(self, value: &[u8]) -> Result<Value, E> {
        match std::str::from_utf8(value) {
            Ok(text) => Ok(Value::Text(text.to_owned())),
            Err(_) => Err(E::custom(
                "!!binary data that is no text; put it, base64-encoded, into binaryData of a \
                 ConfigMap or data of a Secret",
            )),
        }
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(Values)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element()? {
            nodes.push(node);
        }
        Ok(Value::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut known = std::collections::HashSet::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            // The parser compares keys as YAML has them; the API has texts.
            if !known.insert(key.value.clone()) {
                return Err(A::Error::custom(format!(
                    "the key {:?} is there twice; each key of a mapping is there once",
                    key.value
                )));
            }
            let at = position(key.referenced);
            let key = Key {
                at,
                text: key.value,
            };
            entries.push((key, map.next_value()?));
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests;
