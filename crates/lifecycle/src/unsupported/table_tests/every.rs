//! Every field of a type of the API, by a reader that has whatever it is asked for.

use std::cell::RefCell;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor,
};

/// The paths of all fields that hold a value: `spec.containers[].ports[].name`. Of a mapping with
/// keys of the writer's own it is the mapping's.
pub(super) fn fields<T: DeserializeOwned>() -> Vec<String> {
    let found = RefCell::new(Vec::new());
    let reader = Reader {
        path: String::new(),
        only: None,
        found: &found,
        named: "",
    };
    T::deserialize(reader).unwrap();
    found.into_inner()
}

/// An object that has one field, with a value that means something, and nothing else.
pub(super) fn only<T: DeserializeOwned>(field: &str) -> T {
    let found = RefCell::new(Vec::new());
    let reader = Reader {
        path: String::new(),
        only: Some(field),
        found: &found,
        named: "",
    };
    T::deserialize(reader).unwrap()
}

/// The value of a text, by the end of its path: one that differs from the default.
fn text(path: &str) -> &'static str {
    const TEXTS: [(&str, &str); 21] = [
        ("restartPolicyRules[].action", "Restart"),
        (".exitCodes.operator", "NotIn"),
        ("resizePolicy[].resourceName", "cpu"),
        ("resizePolicy[].restartPolicy", "RestartContainer"),
        ("containers[].restartPolicy", "Always"),
        ("initContainers[].restartPolicy", "Always"),
        (".restartPolicy", "Never"),
        (".emptyDir.medium", "Memory"),
        (".hostPath.type", "Directory"),
        (".mountPropagation", "HostToContainer"),
        (".recursiveReadOnly", "Enabled"),
        (".procMount", "Unmasked"),
        (".dnsPolicy", "None"),
        (".terminationMessagePath", "/other"),
        (".terminationMessagePolicy", "FallbackToLogsOnError"),
        (".imagePullPolicy", "Never"),
        (".volumeMounts[].name", "v"),
        ("apiVersion", "v1"),
        ("kind", "Pod"),
        ("Timestamp", "2026-01-01T00:00:00Z"),
        (".time", "2026-01-01T00:00:00Z"),
    ];
    TEXTS
        .iter()
        .find(|(end, _)| path.ends_with(end))
        .map_or("text", |(_, text)| text)
}

/// The key of a mapping with keys of the writer's own.
fn key(path: &str) -> &'static str {
    let amounts = ["limits", "requests", "overhead"];
    match amounts.iter().any(|end| path.ends_with(end)) {
        true => "cpu",
        false => "key",
    }
}

struct Reader<'r> {
    path: String,
    only: Option<&'r str>,
    found: &'r RefCell<Vec<String>>,
    /// The newtype around it.
    named: &'static str,
}

impl Reader<'_> {
    fn below(&self, step: &str) -> Self {
        Reader {
            path: match self.path.as_str() {
                "" => step.to_owned(),
                path if step.starts_with('[') => format!("{path}{step}"),
                path => format!("{path}.{step}"),
            },
            only: self.only,
            found: self.found,
            named: "",
        }
    }

    fn leaf(&self) {
        self.found.borrow_mut().push(self.path.clone());
    }

    /// Whether the way to the one field leads over this path.
    fn wanted(&self, path: &str) -> bool {
        let Some(only) = self.only else {
            return true;
        };
        only.strip_prefix(path)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    }
}

#[derive(Debug)]
struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Error {
        Error(message.to_string())
    }
}

macro_rules! leaves {
    ($($method:ident $visit:ident $value:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.leaf();
            visitor.$visit($value)
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Error;

    leaves! {
        deserialize_bool visit_bool true;
        deserialize_i8 visit_i64 1;
        deserialize_i16 visit_i64 1;
        deserialize_i32 visit_i64 1;
        deserialize_i64 visit_i64 1;
        deserialize_u8 visit_i64 1;
        deserialize_u16 visit_i64 1;
        deserialize_u32 visit_i64 1;
        deserialize_u64 visit_i64 1;
        deserialize_f32 visit_f64 1.0;
        deserialize_f64 visit_f64 1.0;
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.leaf();
        match self.named {
            "Quantity" => visitor.visit_str("1"),
            "FieldsV1" => visitor.visit_unit(),
            // A number or a name.
            _ => visitor.visit_i64(1),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.leaf();
        match self.named {
            "Time" | "MicroTime" => visitor.visit_str("2026-01-01T00:00:00Z"),
            _ => visitor.visit_str(text(&self.path)),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(Reader {
            named: name,
            ..self
        })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(One(Some(self.below("[]"))))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Own(Some(self), false))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Fields {
            fields: fields.iter(),
            value: None,
            reader: self,
        })
    }

    serde::forward_to_deserialize_any! {
        char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier ignored_any
    }
}

/// A list of one.
struct One<'r>(Option<Reader<'r>>);

impl<'de> SeqAccess<'de> for One<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        self.0
            .take()
            .map(|reader| seed.deserialize(reader))
            .transpose()
    }
}

/// A mapping with one key of the writer's own.
struct Own<'r>(Option<Reader<'r>>, bool);

impl<'de> MapAccess<'de> for Own<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        if std::mem::replace(&mut self.1, true) {
            return Ok(None);
        }
        let path = self.0.as_ref().map(|reader| reader.path.as_str());
        let key = key(path.unwrap_or_default());
        seed.deserialize(StrDeserializer::<Error>::new(key))
            .map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.0.take().unwrap())
    }
}

/// The fields of a type.
struct Fields<'r> {
    fields: std::slice::Iter<'static, &'static str>,
    value: Option<Reader<'r>>,
    reader: Reader<'r>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        for field in self.fields.by_ref() {
            let below = self.reader.below(field);
            if self.reader.wanted(&below.path) {
                self.value = Some(below);
                return seed
                    .deserialize(StrDeserializer::<Error>::new(field))
                    .map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.value.take().unwrap())
    }
}
