//! A container's environment: nothing of the host's, PATH and HOSTNAME, the image's variables, those
//! of Services, then the pod's.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVar, EnvVarSource, Pod};

use super::expand::expand;
use super::{Given, ImageProcess, PATH, PodFacts, ProcessError, downward, links};

/// A container's environment, by where it comes from.
#[derive(Debug)]
pub(crate) struct Environment {
    base: Vec<(String, String)>,
    services: Vec<(String, String)>,
    /// The pod's own variables, in order.
    pod: Vec<(String, String)>,
}

impl Environment {
    /// All variables, each name once: where two set one name the later wins. `PWD` is added when
    /// the working directory is not `/`, since that is all that a Go guest has to learn it from.
    pub(crate) fn all(&self, cwd: &str) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> = Vec::new();
        let pwd = ("PWD".to_owned(), cwd.to_owned());
        let pwd = (cwd != "/").then_some(&pwd);
        let given = self.base.iter().chain(&self.services).chain(&self.pod);
        for (name, value) in pwd.into_iter().chain(given) {
            match all.iter_mut().find(|(known, _)| known == name) {
                Some(known) => known.1.clone_from(value),
                None => all.push((name.clone(), value.clone())),
            }
        }
        all
    }

    /// What `$(NAME)` stands for: a variable of the pod's own, else of a Service.
    pub(crate) fn value(&self, name: &str) -> Option<String> {
        last(&self.pod, name).or_else(|| last(&self.services, name))
    }
}

/// The last value of a variable.
fn last(variables: &[(String, String)], name: &str) -> Option<String> {
    let found = variables.iter().rev().find(|(known, _)| known == name);
    found.map(|(_, value)| value.clone())
}

/// Resolves the environment of a container.
///
/// # Errors
/// When a variable's `valueFrom` can't be resolved.
pub(crate) fn environment(
    pod: &Pod,
    container: &Container,
    image: &ImageProcess,
    facts: &PodFacts,
    given: &Given,
) -> Result<Environment, ProcessError> {
    let mut base = vec![
        ("PATH".to_owned(), PATH.to_owned()),
        ("HOSTNAME".to_owned(), facts.hostname.clone()),
    ];
    base.extend(image.env.iter().cloned());
    let mut all = Environment {
        base,
        services: links::variables(pod, &given.services),
        pod: Vec::new(),
    };
    for from in container.env_from.iter().flatten() {
        all.pod.extend(from_all(from, given)?);
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value((pod, container), variable, &all, (facts, given))? {
            all.pod.push((variable.name.clone(), value));
        }
    }
    Ok(all)
}

fn value(
    (pod, container): (&Pod, &Container),
    variable: &EnvVar,
    known: &Environment,
    facts: (&PodFacts, &Given),
) -> Result<Option<String>, ProcessError> {
    if let Some(source) = &variable.value_from {
        return from_source(pod, container, &variable.name, source, facts);
    }
    let lookup = |name: &str| known.value(name);
    Ok(Some(expand(
        variable.value.as_deref().unwrap_or_default(),
        lookup,
    )))
}

fn from_source(
    pod: &Pod,
    container: &Container,
    name: &str,
    source: &EnvVarSource,
    known: (&PodFacts, &Given),
) -> Result<Option<String>, ProcessError> {
    let (facts, given) = known;
    if let Some(field) = &source.field_ref {
        return downward::variable(pod, &field.field_path, facts)
            .map(Some)
            .ok_or_else(|| ProcessError::Field {
                name: name.into(),
                path: field.field_path.clone(),
            });
    }
    if let Some(selector) = &source.resource_field_ref {
        let named = selector.container_name.as_deref().unwrap_or_default();
        let container = match named {
            "" => Cow::Borrowed(container),
            other => crate::hands::container(pod, other)
                .ok_or_else(|| ProcessError::NoContainer(other.to_owned()))?,
        };
        return downward::resource(&container, selector, facts).map(Some);
    }
    if let Some(key) = &source.config_map_key_ref {
        let map = given.config_map(&key.name, key.optional)?;
        let text = map.and_then(|map| map.data.as_ref()?.get(&key.key).cloned());
        return found(pod, ("ConfigMap", &key.name, &key.key), key.optional, text);
    }
    if let Some(key) = &source.secret_key_ref {
        let secret = given.secret(&key.name, key.optional)?;
        let bytes = secret.and_then(|secret| secret.data.as_ref()?.get(&key.key));
        let text = bytes
            .map(|bytes| secret_text(&key.name, &key.key, &bytes.0))
            .transpose()?;
        return found(pod, ("Secret", &key.name, &key.key), key.optional, text);
    }
    match source.file_key_ref {
        None => Ok(None),
        Some(_) => Err(ProcessError::Source {
            name: name.into(),
            from: "fileKeyRef",
        }),
    }
}

/// A key that is not there is an error, unless it need not be.
fn found(
    pod: &Pod,
    (kind, object, key): (&'static str, &str, &str),
    optional: Option<bool>,
    text: Option<String>,
) -> Result<Option<String>, ProcessError> {
    match text {
        Some(text) => Ok(Some(text)),
        None if optional == Some(true) => Ok(None),
        None => Err(ProcessError::NoKey {
            key: key.to_owned(),
            kind,
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            object: object.to_owned(),
        }),
    }
}

/// A variable is text without NUL, whatever a Secret holds.
fn secret_text(object: &str, key: &str, bytes: &[u8]) -> Result<String, ProcessError> {
    let text = String::from_utf8(bytes.to_vec()).ok();
    text.filter(|text| !text.contains('\0'))
        .ok_or_else(|| ProcessError::NotText {
            object: object.to_owned(),
            key: key.to_owned(),
        })
}

/// All that an `envFrom` brings, by key. Names are taken as they are, as the kubelet does since
/// variables may have any printable name.
fn from_all(from: &EnvFromSource, given: &Given) -> Result<Vec<(String, String)>, ProcessError> {
    let prefix = from.prefix.as_deref().unwrap_or_default();
    let mut all = Vec::new();
    if let Some(source) = &from.config_map_ref {
        let map = given.config_map(&source.name, source.optional)?;
        for (key, text) in map.and_then(|map| map.data.as_ref()).into_iter().flatten() {
            all.push((format!("{prefix}{key}"), text.clone()));
        }
    } else if let Some(source) = &from.secret_ref {
        let secret = given.secret(&source.name, source.optional)?;
        let data = secret.and_then(|secret| secret.data.as_ref());
        for (key, bytes) in data.into_iter().flatten() {
            let text = secret_text(&source.name, key, &bytes.0)?;
            all.push((format!("{prefix}{key}"), text));
        }
    }
    Ok(all)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::{ConfigMap, ObjectFieldSelector, Secret};

    use super::*;

    fn var(name: &str, value: &str) -> EnvVar {
        EnvVar {
            name: name.into(),
            value: Some(value.into()),
            ..EnvVar::default()
        }
    }

    fn field(name: &str, path: &str) -> EnvVar {
        EnvVar {
            name: name.into(),
            value_from: Some(EnvVarSource {
                field_ref: Some(ObjectFieldSelector {
                    field_path: path.into(),
                    ..ObjectFieldSelector::default()
                }),
                ..EnvVarSource::default()
            }),
            ..EnvVar::default()
        }
    }

    fn given() -> Given {
        let map = r#"{"data":{"mode":"map","b.c":"2"}}"#;
        let secret = r#"{"data":{"password":"dG9w","raw":"/w==","nul":"YQBi"}}"#;
        let mut given = Given::default();
        let map: ConfigMap = serde_json::from_str(map).unwrap();
        given.config_maps.insert("m".into(), Arc::new(map));
        let secret: Secret = serde_json::from_str(secret).unwrap();
        given.secrets.insert("s".into(), Arc::new(secret));
        given
    }

    /// Of a container written as JSON.
    fn of(container: &str) -> Result<Vec<(String, String)>, String> {
        let container: Container = serde_json::from_str(container).unwrap();
        let mut pod = Pod::default();
        pod.metadata.namespace = Some("ns".into());
        let image = ImageProcess::default();
        environment(&pod, &container, &image, &PodFacts::default(), &given())
            .map(|found| found.pod)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn variables_come_from_objects_first_all_then_one_by_one() {
        let env = of(
            r#"{"name":"c","envFrom":[{"configMapRef":{"name":"m"},"prefix":"M_"},
                {"configMapRef":{"name":"none","optional":true}}],
            "env":[{"name":"A","value":"$(M_mode)"},
                {"name":"M_b.c","value":"over"},
                {"name":"P","valueFrom":{"secretKeyRef":{"name":"s","key":"password"}}},
                {"name":"K","valueFrom":{"configMapKeyRef":{"name":"m","key":"mode"}}},
                {"name":"N","valueFrom":{"configMapKeyRef":{"name":"m","key":"no","optional":true}}},
                {"name":"O","valueFrom":{"secretKeyRef":{"name":"none","key":"no","optional":true}}}]}"#,
        )
        .unwrap();
        let env: Vec<String> = env.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let expected = [
            "M_b.c=2",
            "M_mode=map",
            "A=map",
            "M_b.c=over",
            "P=top",
            "K=map",
        ];
        assert_eq!(env, expected);
    }

    #[test]
    fn what_is_missing_is_said_in_the_kubelets_words() {
        for (from, expected) in [
            (
                r#""configMapKeyRef":{"name":"x","key":"k"}"#,
                "configmap \"x\" not found",
            ),
            (
                r#""secretKeyRef":{"name":"x","key":"k"}"#,
                "secret \"x\" not found",
            ),
            (
                r#""configMapKeyRef":{"name":"m","key":"k"}"#,
                "couldn't find key k in ConfigMap ns/m",
            ),
            (
                r#""secretKeyRef":{"name":"s","key":"k"}"#,
                "couldn't find key k in Secret ns/s",
            ),
        ] {
            let container =
                format!(r#"{{"name":"c","env":[{{"name":"X","valueFrom":{{{from}}}}}]}}"#);
            assert_eq!(of(&container).unwrap_err(), expected);
        }
        let all = r#"{"name":"c","envFrom":[{"secretRef":{"name":"x"}}]}"#;
        assert_eq!(of(all).unwrap_err(), "secret \"x\" not found");
    }

    #[test]
    fn a_secret_that_is_no_text_is_named_and_not_shown() {
        for key in ["raw", "nul"] {
            let container = format!(
                r#"{{"name":"c","env":[{{"name":"X","valueFrom":{{"secretKeyRef":{{"name":"s","key":"{key}"}}}}}}]}}"#
            );
            let error = of(&container).unwrap_err();
            assert!(error.contains(key) && error.contains("volume"), "{error}");
        }
    }

    fn resolve(env: Vec<EnvVar>) -> Result<Vec<(String, String)>, ProcessError> {
        let container = Container {
            env: Some(env),
            ..Container::default()
        };
        let image = ImageProcess {
            env: vec![("A".into(), "image".into())],
            ..ImageProcess::default()
        };
        let facts = PodFacts {
            ips: vec!["10.0.0.9".parse().unwrap()],
            host_ips: Vec::new(),
            hostname: "pod".into(),
            ..PodFacts::default()
        };
        let mut pod = Pod::default();
        pod.metadata.labels = Some([("app".to_owned(), "web".to_owned())].into());
        environment(&pod, &container, &image, &facts, &given()).map(|e| e.all("/"))
    }

    fn get<'a>(env: &'a [(String, String)], name: &str) -> Option<&'a str> {
        env.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    #[test]
    fn holds_only_what_a_container_gets() {
        let env = resolve(vec![]).unwrap();
        let names: Vec<&str> = env.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names, ["PATH", "HOSTNAME", "A"]);
    }

    #[test]
    fn the_pod_wins_over_the_image_and_refers_to_earlier_variables_alone() {
        let env = resolve(vec![
            var("A", "pod"),
            var("B", "$(A)-$(C)"),
            var("C", "late"),
        ])
        .unwrap();
        assert_eq!(get(&env, "A"), Some("pod"));
        assert_eq!(get(&env, "B"), Some("pod-$(C)"));
    }

    #[test]
    fn fields_of_the_pod() {
        let env = resolve(vec![
            field("IP", "status.podIP"),
            field("APP", "metadata.labels['app']"),
            field("NONE", "metadata.annotations['x']"),
        ])
        .unwrap();
        assert_eq!(get(&env, "IP"), Some("10.0.0.9"));
        assert_eq!(get(&env, "APP"), Some("web"));
        assert_eq!(get(&env, "NONE"), Some(""));
        let error = resolve(vec![field("X", "spec.secret")]).unwrap_err();
        assert!(error.to_string().contains("spec.secret"));
    }
}
