//! Pulls, and what an image says of the process that it is.

use std::path::{Path, PathBuf};
use std::time::Instant;

use image::{Auth, Certificates, Credentials, Image, Module, PullOptions, Reference, Source};
use k8s_openapi::api::core::v1::{Pod, Secret};
use lifecycle::{Failure, PullPolicy};

use super::{Hands, blocking, failure, locked};
use crate::container::ImageProcess;
use crate::objects::reader;
use crate::program::sentence;

/// An image that a container may start from.
#[derive(Clone, Debug)]
pub(super) enum Resolved {
    /// One of the store.
    Image(Box<Image>),
    /// A module in a file, for `run`.
    Module(Module),
}

/// What the image of a container is, by its words.
enum Named {
    /// A name in the store or a registry.
    Reference(Reference),
    /// A module in a file.
    File(PathBuf),
    /// An image in a folder or archive.
    Archive(Source),
}

impl Resolved {
    /// What names it for good.
    fn id(&self) -> String {
        match self {
            Resolved::Image(image) => image.name.pinned(image.digest).to_string(),
            Resolved::Module(module) => module.digest.to_string(),
        }
    }

    fn size(&self) -> u64 {
        match self {
            Resolved::Image(image) => image.size,
            Resolved::Module(module) => module.size,
        }
    }

    /// What it says of the process.
    pub(super) fn process(&self) -> ImageProcess {
        match self {
            Resolved::Image(image) => ImageProcess {
                entrypoint: image.config.entrypoint.clone(),
                cmd: image.config.cmd.clone(),
                env: image.config.env.clone(),
                working_dir: image.config.working_dir.clone(),
            },
            Resolved::Module(module) => ImageProcess {
                entrypoint: vec![module.guest_path.display().to_string()],
                ..ImageProcess::default()
            },
        }
    }

    /// The module that a command's first word names.
    pub(super) fn module(&self, word: &str, cwd: &str, path: &str) -> Result<Module, image::Error> {
        match self {
            Resolved::Image(image) => image.module_in(word, cwd, path),
            Resolved::Module(module) => {
                let export = word.split_once('#').map(|(_, export)| export.to_owned());
                Ok(Module {
                    export: export.or_else(|| module.export.clone()),
                    ..module.clone()
                })
            }
        }
    }

    /// Its layers, as the volume crate takes them.
    pub(super) fn layers(&self) -> Vec<volume::LayerSpec> {
        let Resolved::Image(image) = self else {
            return Vec::new();
        };
        let layer = |layer: &image::Layer| volume::LayerSpec {
            path: layer.path.clone(),
            marked: layer.whiteouts.marked,
            removed: layer.whiteouts.removed.clone(),
            opaque: layer.whiteouts.opaque.clone(),
        };
        image.layers.iter().map(layer).collect()
    }
}

/// By its type (`pkg/credentialprovider/secrets/secrets.go`).
fn pull_secret(namespace: &str, name: &str, secret: &Secret) -> Result<Auth, Failure> {
    let source = format!("the Secret {namespace}/{name}");
    let data = |key: &str| secret.data.as_ref().and_then(|data| data.get(key));
    let auth = match secret.type_.as_deref() {
        Some("kubernetes.io/dockerconfigjson") => {
            data(".dockerconfigjson").map(|text| Auth::of_text(&source, &text.0, false))
        }
        Some("kubernetes.io/dockercfg") => {
            data(".dockercfg").map(|text| Auth::of_text(&source, &text.0, true))
        }
        other => {
            tracing::warn!(
                namespace,
                secret = name,
                r#type = other,
                "an imagePullSecret is of no registry's type"
            );
            None
        }
    };
    auth.unwrap_or_else(|| Ok(Auth::none()))
        .map_err(|error| image_failure(&error))
}

/// Whatever a registry says, it is asked again after a backoff, as the kubelet asks: the image may be pushed yet, the
/// password mended. Only a name that is none stays so.
fn image_failure(error: &image::Error) -> Failure {
    let may_heal = !matches!(error, image::Error::Name(_));
    failure(error.reason(), sentence(error), may_heal)
}

/// Splits `FILE#export`, unless a file has that name.
fn file_and_export(path: &str) -> (&str, Option<&str>) {
    match path.rsplit_once('#') {
        Some((file, export)) if !Path::new(path).exists() => (file, Some(export)),
        _ => (path, None),
    }
}

fn archive(path: &str) -> Source {
    // A name may follow the path, as in oci:DIR:NAME; a path that is there is taken whole.
    match path.split_once(':') {
        Some((file, image)) if !Path::new(path).exists() => Source {
            path: file.into(),
            image: Some(image.to_owned()),
        },
        _ => Source {
            path: path.into(),
            image: None,
        },
    }
}

impl Hands {
    fn named(&self, image: &str) -> Result<Named, Failure> {
        if self.place.local_images {
            if let Some(path) = image.strip_prefix("file:") {
                return Ok(Named::File(path.into()));
            }
            let transports = ["oci:", "oci-archive:", "docker-archive:"];
            if let Some(path) = transports.iter().find_map(|t| image.strip_prefix(t)) {
                return Ok(Named::Archive(archive(path)));
            }
        }
        match image.parse::<Reference>() {
            Ok(reference) => Ok(Named::Reference(reference)),
            Err(error) => Err(image_failure(&image::Error::from(error))),
        }
    }

    /// Brings a container's image into the store.
    pub(super) async fn pull(
        &self,
        pod: &Pod,
        container: &str,
        image: &str,
        policy: PullPolicy,
    ) -> Result<lifecycle::Image, Failure> {
        let begun = Instant::now();
        let (resolved, present) = match self.named(image)? {
            Named::File(path) => (self.import_file(path).await?, true),
            Named::Archive(source) => (self.import_archive(source).await?, false),
            Named::Reference(reference) => self.by_reference(pod, reference, policy).await?,
        };
        let told = lifecycle::Image {
            id: resolved.id(),
            size: resolved.size(),
            present,
            took_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        locked(&self.resolved).insert((uid, container.to_owned()), resolved);
        Ok(told)
    }

    async fn import_file(&self, path: PathBuf) -> Result<Resolved, Failure> {
        let store = self.store.clone();
        self.brief(move || {
            let text = path.to_string_lossy().into_owned();
            let (file, export) = file_and_export(&text);
            let module = store
                .import_module(Path::new(file))
                .map_err(|e| image_failure(&e))?;
            Ok(Resolved::Module(Module {
                export: export.map(str::to_owned),
                ..module
            }))
        })
        .await
    }

    async fn import_archive(&self, source: Source) -> Result<Resolved, Failure> {
        let store = self.store.clone();
        blocking(move || {
            let image = store.import(&source, None).map_err(|e| image_failure(&e))?;
            Ok(Resolved::Image(Box::new(image)))
        })
        .await
    }

    async fn by_reference(
        &self,
        pod: &Pod,
        reference: Reference,
        policy: PullPolicy,
    ) -> Result<(Resolved, bool), Failure> {
        if policy != PullPolicy::Always
            && let Some(image) = self.stored(reference.clone()).await?
        {
            return Ok((Resolved::Image(Box::new(image)), true));
        }
        if policy == PullPolicy::Never {
            return Err(image_failure(&image::Error::NeverPull(
                reference.to_string(),
            )));
        }
        // Before the bar: a helper may ask a person for a word on the terminal.
        let (all, access) = self.access(pod, &reference).await?;
        let progress = self.reporter.pull(&reference.to_string());
        let mut refused = None;
        for credentials in all {
            let options = PullOptions {
                progress: progress.reports(),
                credentials,
                ..access.clone()
            };
            match self.store.pull(&reference, &options).await {
                Ok(image) => return Ok((Resolved::Image(Box::new(image)), false)),
                // Some registries say to who may not see a repository that there is none.
                Err(error @ (image::Error::Refused { .. } | image::Error::NotFound { .. })) => {
                    refused = Some(error);
                }
                Err(error) => return Err(image_failure(&error)),
            }
        }
        Err(match refused {
            Some(error) => image_failure(&error),
            None => failure("ErrImagePull", "there is nobody to ask as", true),
        })
    }

    /// As whom to ask the registry, in turn, and whom to believe. Made for each pull, of the pod's own Secrets and of
    /// what the node has: nothing of it is kept, and no other pod asks with it.
    async fn access(
        &self,
        pod: &Pod,
        reference: &Reference,
    ) -> Result<(Vec<Credentials>, PullOptions), Failure> {
        let auth = self.pull_secrets(pod).await?;
        let auth = auth.then(self.place.auth.clone());
        let all = auth.all(reference).await.map_err(|e| image_failure(&e))?;
        let name = reference.clone();
        let certificates =
            blocking(move || Certificates::of_machine(&name).map_err(|e| image_failure(&e)));
        let options = PullOptions {
            certificates: certificates.await?,
            ..PullOptions::default()
        };
        Ok((all, options))
    }

    /// What the pod's imagePullSecrets say. One that is not there, or is of another type, is left out, as by the kubelet
    /// (`getPullSecretsForPod` of `pkg/kubelet/kubelet_pods.go`): the image may be anybody's.
    async fn pull_secrets(&self, pod: &Pod) -> Result<Auth, Failure> {
        let reader = reader(pod);
        let namespace = reader.namespace;
        let spec = pod.spec.as_ref();
        let named = spec.and_then(|spec| spec.image_pull_secrets.as_deref());
        let mut auth = Auth::none();
        for name in named.unwrap_or_default().iter().map(|secret| &secret.name) {
            let found = self.place.objects.secret(reader, name).await;
            // Just after a pod was bound this may be the authorizer's lag: the pull is tried again.
            let found = found.map_err(|error| failure("ErrImagePull", error, true))?;
            let Some(secret) = found else {
                tracing::warn!(namespace, secret = name, "an imagePullSecret is not there");
                continue;
            };
            auth = auth.then(pull_secret(namespace, name, &secret)?);
        }
        Ok(auth)
    }

    async fn stored(&self, reference: Reference) -> Result<Option<Image>, Failure> {
        let store = self.store.clone();
        self.brief(move || store.get(&reference).map_err(|e| image_failure(&e)))
            .await
    }

    /// The image of a container that was pulled before, be that before this process began.
    pub(super) async fn resolved(
        &self,
        pod: &Pod,
        container: &str,
        image_id: &str,
    ) -> Result<Resolved, Failure> {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let known = locked(&self.resolved)
            .get(&(uid, container.to_owned()))
            .cloned();
        if let Some(known) = known.filter(|known| known.id() == image_id) {
            return Ok(known);
        }
        let gone = || {
            let message =
                format!("image {image_id} is not in the store any more; it has to be pulled again");
            failure("CreateContainerError", message, true)
        };
        let reference: Reference = image_id.parse().map_err(|_| gone())?;
        match self.stored(reference).await? {
            Some(image) => Ok(Resolved::Image(Box::new(image))),
            None => Err(gone()),
        }
    }

    /// Nothing is known of a pod's images any more.
    pub(super) fn forget_images(&self, uid: &str) {
        locked(&self.resolved).retain(|(pod, _), _| pod != uid);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use k8s_openapi::ByteString;
    use lifecycle::Retry;

    use super::*;

    async fn shown(kind: &str, key: &str, text: &str) -> Result<Vec<Credentials>, Failure> {
        let data = [(key.to_owned(), ByteString(text.as_bytes().to_vec()))];
        let secret = Secret {
            type_: Some(kind.to_owned()),
            data: Some(data.into()),
            ..Secret::default()
        };
        let auth = pull_secret("shop", "registry", &secret)?;
        let name: Reference = "r.example.org/app".parse().unwrap();
        Ok(auth.all(&name).await.unwrap())
    }

    #[test]
    fn a_registry_is_asked_again_unless_the_name_is_none() {
        let absent = image::Error::NotFound {
            registry: "r.example.org".to_owned(),
            image: "r.example.org/app:1".to_owned(),
            what: "tag \"1\"".to_owned(),
            detail: String::new(),
        };
        let told = image_failure(&absent);
        assert_eq!(
            (told.reason.as_str(), told.retry),
            ("ErrImagePull", Retry::Backoff)
        );
        let wrong = "r.example.org/UPPER:1".parse::<Reference>().unwrap_err();
        let told = image_failure(&image::Error::from(wrong));
        assert_eq!(
            (told.reason.as_str(), told.retry),
            ("InvalidImageName", Retry::Never)
        );
    }

    #[tokio::test]
    async fn a_pull_secret_is_read_by_its_type() {
        let entry = r#"{"r.example.org":{"username":"u","password":"p"}}"#;
        let user = [Credentials::Basic("u".into(), "p".into())];
        let (new, old) = ("kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg");
        let json = format!(r#"{{"auths":{entry}}}"#);
        assert_eq!(shown(new, ".dockerconfigjson", &json).await.unwrap(), user);
        assert_eq!(shown(old, ".dockercfg", entry).await.unwrap(), user);
        let nobody = [Credentials::Anonymous];
        assert_eq!(
            shown("Opaque", ".dockerconfigjson", &json).await.unwrap(),
            nobody
        );
        let error = shown(new, ".dockerconfigjson", "secret!")
            .await
            .unwrap_err();
        assert!(
            error.message.contains("the Secret shop/registry"),
            "{error:?}"
        );
        assert!(!error.message.contains("secret!"), "{error:?}");
    }
}
