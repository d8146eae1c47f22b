//! Lists as the kubelet's flags write them: `a=b,c=d`, `key=value:effect,…`, `signal<threshold,…`.

use std::collections::BTreeMap;
use std::str::FromStr;

use k8s_openapi::api::core::v1::Taint;

/// `name=value,…`, as `--system-reserved`; `signal<value,…`, as `--eviction-hard`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pairs(pub(crate) BTreeMap<String, String>);

impl FromStr for Pairs {
    type Err = String;

    fn from_str(text: &str) -> Result<Pairs, String> {
        let mut pairs = BTreeMap::new();
        for item in items(text) {
            let (name, value) = item
                .split_once(['=', '<'])
                .filter(|(name, value)| !name.is_empty() && !value.is_empty())
                .ok_or_else(|| format!("{item:?} has no value; write NAME=VALUE,NAME=VALUE"))?;
            if pairs.insert(name.to_owned(), value.to_owned()).is_some() {
                return Err(format!("{name} is there twice"));
            }
        }
        Ok(Pairs(pairs))
    }
}

/// `key=value,…`, as `--node-labels`; a value may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Labels(pub(crate) BTreeMap<String, String>);

impl FromStr for Labels {
    type Err = String;

    fn from_str(text: &str) -> Result<Labels, String> {
        let mut labels = BTreeMap::new();
        for item in items(text) {
            let (key, value) = item
                .split_once('=')
                .ok_or_else(|| format!("{item:?} is no label; write KEY=VALUE,KEY=VALUE"))?;
            labels.insert(key.to_owned(), value.to_owned());
        }
        Ok(Labels(labels))
    }
}

/// `key=value:effect,key:effect,…`, as `--register-with-taints`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Taints(pub(crate) Vec<Taint>);

impl FromStr for Taints {
    type Err = String;

    fn from_str(text: &str) -> Result<Taints, String> {
        items(text).map(taint).collect::<Result<_, _>>().map(Taints)
    }
}

fn taint(text: &str) -> Result<Taint, String> {
    let (left, effect) = text
        .rsplit_once(':')
        .ok_or_else(|| format!("{text:?} is no taint; write KEY=VALUE:EFFECT or KEY:EFFECT"))?;
    let (key, value) = match left.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (left, None),
    };
    Ok(Taint {
        key: key.to_owned(),
        value,
        effect: effect.to_owned(),
        time_added: None,
    })
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}
