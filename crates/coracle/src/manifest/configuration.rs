//! One document of configuration, read as strictly as a manifest: with its file, line, column and
//! field for everything that is wrong. Must not know: what is configured.

use serde::de::DeserializeOwned;

use super::node::{Node, Value, parse};
use super::problem::{Problem, Problems};
use super::typed::{self, Wrong};
use super::{Position, Source};

/// What a document is and what may be wrong with it beyond its types.
pub(crate) struct Kind<T> {
    /// `kubelet.config.k8s.io/v1beta1`.
    pub(crate) version: &'static str,
    /// `KubeletConfiguration`.
    pub(crate) name: &'static str,
    /// Why a field that the type does not have can't be used, where more is known than that.
    pub(crate) unusable: fn(&str) -> Option<String>,
    /// The fields whose values make no sense, each with what helps.
    pub(crate) check: fn(&T) -> Vec<(String, String)>,
}

/// Reads the one document of a file; a file without any is all defaults.
///
/// # Errors
/// Everything that is wrong with it.
pub(crate) fn read<T: DeserializeOwned + Default>(
    source: &Source,
    kind: &Kind<T>,
) -> Result<T, Problems> {
    let problem = |at: Option<Position>, field: &str, message: String| Problem {
        file: source.name.clone(),
        at,
        object: kind.name.to_owned(),
        field: field.to_owned(),
        message,
    };
    let documents =
        parse(&source.text).map_err(|(at, message)| Problems(vec![problem(at, "", message)]))?;
    let mut documents = documents.into_iter();
    let Some(mut node) = documents.next() else {
        return Ok(T::default());
    };
    if let Some(second) = documents.next() {
        let message = "a second document; keep one in the file".to_owned();
        return Err(Problems(vec![problem(Some(second.at), "", message)]));
    }
    let mut wrongs = Vec::new();
    headed(&mut node, kind, &mut wrongs);
    let (read, complete) = typed::read::<T>(&mut node, false, &mut wrongs);
    if complete {
        let senseless = (kind.check)(&read)
            .into_iter()
            .map(|(field, message)| Wrong {
                at: node.locate(&field),
                field,
                message,
            });
        wrongs.extend(senseless);
    }
    if wrongs.is_empty() {
        return Ok(read);
    }
    wrongs.sort_by_key(|wrong| wrong.at);
    let told = wrongs.into_iter().map(|wrong| {
        let known = (kind.unusable)(&wrong.field);
        let message = match known {
            Some(why) if wrong.message.starts_with("unknown field") => why,
            _ => wrong.message,
        };
        problem(Some(wrong.at), &wrong.field, message)
    });
    Err(Problems(told.collect()))
}

/// Takes `apiVersion` and `kind` away, which no type has, and says when they are others'.
fn headed<T>(node: &mut Node, kind: &Kind<T>, wrongs: &mut Vec<Wrong>) {
    for (field, wanted) in [("apiVersion", kind.version), ("kind", kind.name)] {
        let (at, message) = match node.get(field) {
            Some(found) if found.text() == Some(wanted) => continue,
            Some(found) => {
                let said = found.described(false);
                (found.at, format!("{said} is not read here; write {wanted}"))
            }
            None => (node.at, format!("missing; write {wanted}")),
        };
        let field = field.to_owned();
        wrongs.push(Wrong { at, field, message });
    }
    if let Value::Map(entries) = &mut node.value {
        entries.retain(|(key, _)| key.text != "apiVersion" && key.text != "kind");
    }
}
