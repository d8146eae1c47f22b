//! From a tree to a type of the API, with every field that the type does not have told.
//!
//! The API's types ignore what they don't know. Their readers name their fields, though, so a key
//! that is none of them is found here, with the field that was meant. Must not know: which kinds
//! there are, and which values make sense.

mod error;

use std::cell::RefCell;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor,
};

use error::{Error, placed};

use super::nearest::nearest;
use super::node::{Key, Node, Step, Value, field};
use super::problem::Position;

/// So many wrong values of one object are looked for.
const WRONG_MAX: usize = 20;

/// A field that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// Where.
    pub(super) at: Position,
    /// `spec.containers[0].image`.
    pub(super) field: String,
    /// What is wrong and what helps.
    pub(super) message: String,
}

/// Reads an object, and says whether every value could be read. What is wrong is told in `wrongs`
/// and left out of the object. `secret`: no text of it is repeated in a message.
pub(super) fn read<T: DeserializeOwned + Default>(
    node: &mut Node,
    secret: bool,
    wrongs: &mut Vec<Wrong>,
) -> (T, bool) {
    let mut complete = true;
    for _ in 0..WRONG_MAX {
        let unknown = RefCell::new(Vec::new());
        let reader = Reader {
            node,
            path: Path::Root,
            unknown: &unknown,
            secret,
        };
        let error = match T::deserialize(reader) {
            Ok(object) => {
                wrongs.extend(unknown.into_inner());
                return (object, complete);
            }
            Err(error) => error,
        };
        drop(unknown);
        complete = false;
        let steps = error.steps.unwrap_or_default();
        let Some(place) = node.at_mut(&steps) else {
            break;
        };
        if matches!(place.value, Value::Hole) {
            break;
        }
        wrongs.push(Wrong {
            at: place.at,
            field: field(&steps),
            message: error.message,
        });
        place.value = Value::Hole;
    }
    (T::default(), false)
}

/// How the reader came to a node.
#[derive(Clone, Copy)]
enum Path<'p> {
    Root,
    Field(&'p Path<'p>, &'p str),
    Index(&'p Path<'p>, usize),
}

impl Path<'_> {
    fn steps(&self) -> Vec<Step> {
        match self {
            Path::Root => Vec::new(),
            Path::Field(above, key) => {
                let mut steps = above.steps();
                steps.push(Step::Field((*key).to_owned()));
                steps
            }
            Path::Index(above, index) => {
                let mut steps = above.steps();
                steps.push(Step::Index(*index));
                steps
            }
        }
    }
}

/// Reads one node.
struct Reader<'n, 'p> {
    node: &'n Node,
    path: Path<'p>,
    unknown: &'p RefCell<Vec<Wrong>>,
    secret: bool,
}

impl<'n, 'p> Reader<'n, 'p> {
    fn any<'de, V: Visitor<'de>>(self, visitor: V, fields: Fields) -> Result<V::Value, Error> {
        let path = self.path;
        let node = self.node;
        let secret = self.secret;
        let found = match &node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Int(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) => visitor.visit_str(text),
            Value::List(list) => visitor.visit_seq(Elements {
                list: list.iter().enumerate(),
                reader: self,
            }),
            Value::Map(entries) => visitor.visit_map(Entries {
                entries: entries.iter(),
                value: None,
                fields,
                reader: self,
            }),
            Value::Hole => visitor.visit_unit(),
        };
        found.map_err(|error| placed(error, node, &path, secret))
    }
}

/// The fields of a type; none of a mapping with keys of the writer's own.
type Fields = Option<&'static [&'static str]>;

macro_rules! forward {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.any(visitor, None)
        }
    )*};
}

macro_rules! number {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.node.value {
                Value::Hole => visitor.visit_i64(0),
                _ => self.any(visitor, None),
            }
        }
    )*};
}

macro_rules! text {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.node.value {
                Value::Hole => visitor.visit_str(""),
                _ => self.any(visitor, None),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'_, '_> {
    type Error = Error;

    forward!(deserialize_any deserialize_unit deserialize_bytes deserialize_byte_buf deserialize_char);
    number!(deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16
        deserialize_u32 deserialize_u64 deserialize_f32 deserialize_f64);
    text!(deserialize_str deserialize_string deserialize_identifier);

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.node.value {
            Value::Hole => visitor.visit_bool(false),
            _ => self.any(visitor, None),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let (node, path, secret) = (self.node, self.path, self.secret);
        match node.value {
            Value::Null | Value::Hole => visitor.visit_none(),
            _ => visitor
                .visit_some(self)
                .map_err(|error| placed(error, node, &path, secret)),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name == "Quantity" && matches!(self.node.value, Value::Hole) {
            return visitor.visit_newtype_struct(StrDeserializer::<Error>::new("0"));
        }
        let (node, path, secret) = (self.node, self.path, self.secret);
        visitor
            .visit_newtype_struct(self)
            .map_err(|error| placed(error, node, &path, secret))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.mapping(visitor, Some(fields))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.mapping(visitor, None)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.node.value {
            Value::Hole => visitor.visit_seq(Elements {
                list: std::slice::Iter::default().enumerate(),
                reader: self,
            }),
            _ => self.any(visitor, None),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.any(visitor, None)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        // No type of the API is an enum to serde.
        Err(de::Error::custom("a value that can't be read"))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }
}

impl<'n, 'p> Reader<'n, 'p> {
    fn mapping<'de, V: Visitor<'de>>(self, visitor: V, fields: Fields) -> Result<V::Value, Error> {
        match self.node.value {
            Value::Hole => visitor.visit_map(Entries {
                entries: std::slice::Iter::default(),
                value: None,
                fields,
                reader: self,
            }),
            _ => self.any(visitor, fields),
        }
    }
}

/// The elements of a list.
struct Elements<'n, 'p> {
    list: std::iter::Enumerate<std::slice::Iter<'n, Node>>,
    reader: Reader<'n, 'p>,
}

impl<'de> SeqAccess<'de> for Elements<'_, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Some((index, node)) = self.list.next() else {
            return Ok(None);
        };
        let reader = Reader {
            node,
            path: Path::Index(&self.reader.path, index),
            unknown: self.reader.unknown,
            secret: self.reader.secret,
        };
        seed.deserialize(reader).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.list.len())
    }
}

/// The entries of a mapping.
struct Entries<'n, 'p> {
    entries: std::slice::Iter<'n, (Key, Node)>,
    value: Option<&'n (Key, Node)>,
    fields: Fields,
    reader: Reader<'n, 'p>,
}

impl Entries<'_, '_> {
    fn unknown(&self, key: &Key, fields: &[&str]) {
        let mut steps = self.reader.path.steps();
        steps.push(Step::Field(key.text.clone()));
        let message = match nearest(&key.text, fields) {
            Some(meant) => format!("unknown field; did you mean {meant}?"),
            None => "unknown field; remove it".to_owned(),
        };
        self.reader.unknown.borrow_mut().push(Wrong {
            at: key.at,
            field: field(&steps),
            message,
        });
    }
}

impl<'de> MapAccess<'de> for Entries<'_, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        while let Some(entry) = self.entries.next() {
            let (key, _) = entry;
            if let Some(fields) = self.fields
                && !fields.contains(&key.text.as_str())
            {
                self.unknown(key, fields);
                continue;
            }
            self.value = Some(entry);
            return seed
                .deserialize(StrDeserializer::<Error>::new(&key.text))
                .map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        let Some((key, node)) = self.value.take() else {
            return Err(de::Error::custom("a key without a value"));
        };
        let reader = Reader {
            node,
            path: Path::Field(&self.reader.path, &key.text),
            unknown: self.reader.unknown,
            secret: self.reader.secret,
        };
        seed.deserialize(reader)
    }
}
