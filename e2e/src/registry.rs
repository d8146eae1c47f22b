//! A real registry (CNCF distribution) on loopback, filled by the real buildah; open, or behind TLS and a password.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::net::TcpStream;

use crate::child::Process;
use crate::pki::Pki;
use crate::programs::Programs;

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(120);

/// Between two tries to connect: an external process tells nobody when it listens.
const PAUSE: Duration = Duration::from_millis(20);

/// The one user of a private registry.
pub(crate) const USER: &str = "e2e:correct horse";

/// The same as htpasswd keeps it: a hash of bcrypt's lowest cost, since no one guesses at a password of tests.
const HTPASSWD: &str = "e2e:$2a$04$WWLk8CwWyxG2W9ytGBKgGuebF8n3ucfVHWyGQay77ABlrkWrtAiVC\n";

/// Who comes to a private registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visitor {
    /// Its user, who trusts its authority.
    Known,
    /// The same with another password.
    Mistaken,
    /// Nobody it knows, who trusts its authority.
    Stranger,
    /// Its user, who knows nothing of its authority.
    Distrustful,
}

impl Visitor {
    /// What docker keeps of who this is: base64 of `name:password`.
    fn auth(self) -> Option<&'static str> {
        match self {
            Visitor::Known | Visitor::Distrustful => Some("ZTJlOmNvcnJlY3QgaG9yc2U="),
            Visitor::Mistaken => Some("ZTJlOndyb25n"),
            Visitor::Stranger => None,
        }
    }
}

/// A running registry. Dropping it ends it, and removes what was pushed.
#[derive(Debug)]
pub struct Registry {
    process: Process,
    address: String,
    folder: tempfile::TempDir,
    private: bool,
}

impl Registry {
    /// Starts an empty one, which speaks plain HTTP.
    ///
    /// # Errors
    /// If it isn't built, or does not listen.
    pub async fn start() -> Result<Registry> {
        Registry::serve(false).await
    }

    /// Starts an empty one, which speaks TLS with a certificate of its own authority and wants a password.
    ///
    /// # Errors
    /// As [`Registry::start`].
    pub async fn start_private() -> Result<Registry> {
        Registry::serve(true).await
    }

    async fn serve(private: bool) -> Result<Registry> {
        // Between finding a free port and listening on it, somebody else may take it.
        for _ in 0..4 {
            match Registry::try_start(private).await {
                Err(error) if format!("{error:#}").contains("address already in use") => {}
                started => return started,
            }
        }
        Registry::try_start(private).await
    }

    async fn try_start(private: bool) -> Result<Registry> {
        let program = Programs::find()?.path("registry");
        let folder = tempfile::Builder::new()
            .prefix("coracle-registry-")
            .tempdir()?;
        let held = TcpListener::bind("127.0.0.1:0")?;
        let address = held.local_addr()?.to_string();
        drop(held);
        let config = folder.path().join("config.yaml");
        let mut text = configuration(&address, folder.path());
        if private {
            let pki = Pki::new(&folder.path().join("pki"))?;
            text.push_str(&guard(folder.path(), &pki)?);
        }
        std::fs::write(&config, text)?;
        let mut command = Command::new(program);
        command.arg("serve").arg(&config);
        let process = Process::start(command, &folder.path().join("registry.log"))?;
        let mut registry = Registry {
            process,
            address,
            folder,
            private,
        };
        registry.listening().await?;
        Ok(registry)
    }

    /// `127.0.0.1:PORT`, the beginning of its images' names.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A home folder for a visitor of a private registry, with what docker and podman would keep there. Made anew.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn home(&self, visitor: Visitor) -> Result<PathBuf> {
        let home = self.folder.path().join(format!("home-{visitor:?}"));
        let docker = home.join(".docker");
        std::fs::create_dir_all(&docker)?;
        let mut auths = serde_json::Map::new();
        if let Some(auth) = visitor.auth() {
            auths.insert(self.address.clone(), serde_json::json!({"auth": auth}));
        }
        let config = serde_json::json!({"auths": auths}).to_string();
        std::fs::write(docker.join("config.json"), config)?;
        if visitor != Visitor::Distrustful {
            let certificates = home.join(".config/containers/certs.d").join(&self.address);
            std::fs::create_dir_all(&certificates)?;
            std::fs::copy(self.authority().join("ca.crt"), certificates.join("ca.crt"))?;
        }
        Ok(home)
    }

    fn authority(&self) -> PathBuf {
        self.folder.path().join("pki")
    }

    /// Makes a compat image of one module with buildah, and pushes it. Gives its full name.
    ///
    /// # Errors
    /// If buildah is missing or fails, with what it said.
    pub fn push_module(&self, name: &str, module: &Path) -> Result<String> {
        let image = module_image(&|arguments| self.buildah(arguments), name, module)?;
        self.push(&image, name)
    }

    /// Pushes the image of an oci-archive. Gives its full name.
    ///
    /// # Errors
    /// As [`Registry::push_module`].
    pub fn push_archive(&self, name: &str, archive: &Path) -> Result<String> {
        let id = self.buildah(&["pull", &format!("oci-archive:{}", archive.display())])?;
        self.push(&id, name)
    }

    fn push(&self, image: &str, name: &str) -> Result<String> {
        let full = format!("{}/{name}", self.address);
        let certificates = self.folder.path().join("buildah-certs");
        let folder = certificates.display().to_string();
        let access: &[&str] = match self.private {
            false => &["--tls-verify=false"],
            true => {
                std::fs::create_dir_all(&certificates)?;
                std::fs::copy(self.authority().join("ca.crt"), certificates.join("ca.crt"))?;
                &["--creds", USER, "--cert-dir", &folder]
            }
        };
        let to = format!("docker://{full}");
        let words = [&["push"], access, &[image, &to]].concat();
        self.buildah(&words)?;
        Ok(full)
    }

    fn buildah(&self, arguments: &[&str]) -> Result<String> {
        run_buildah(&mut Command::new("buildah"), self.folder.path(), arguments)
    }

    async fn listening(&mut self) -> Result<()> {
        let waiting = async {
            loop {
                let answers = TcpStream::connect(&self.address).await.is_ok();
                // Asked second: if it lives, it is not somebody else who answers at its port.
                if let Some(status) = self.process.ended()? {
                    bail!("the registry ended ({status}): {}", self.log());
                }
                if answers {
                    return Ok(());
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(listening) => listening,
            Err(_) => bail!("the registry does not listen after {PATIENCE:?}"),
        }
    }

    fn log(&self) -> String {
        let path: PathBuf = self.folder.path().join("registry.log");
        std::fs::read_to_string(path).unwrap_or_default()
    }
}

/// Runs a buildah with a storage of its own in `folder`. Returns what it printed.
pub(crate) fn run_buildah(
    buildah: &mut Command,
    folder: &Path,
    arguments: &[&str],
) -> Result<String> {
    let output = buildah
        .arg("--root")
        .arg(folder.join("buildah"))
        .arg("--runroot")
        .arg(folder.join("buildah-run"))
        .args(["--storage-driver", "vfs"])
        .args(arguments)
        .env("BUILDAH_ISOLATION", "chroot")
        .output()
        .context("running buildah: install it (apt-get install buildah)")?;
    ensure!(
        output.status.success(),
        "buildah {} failed: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Makes a compat image of one module in buildah's storage. Gives its name there.
pub(crate) fn module_image(
    buildah: &dyn Fn(&[&str]) -> Result<String>,
    name: &str,
    module: &Path,
) -> Result<String> {
    let file = module
        .file_name()
        .and_then(|n| n.to_str())
        .context("the module has no name")?;
    let made = buildah(&["from", "scratch"])?;
    buildah(&["copy", &made, &module.display().to_string(), "/"])?;
    let entrypoint = format!("[\"/{file}\"]");
    let config = [
        "config",
        "--os",
        "wasi",
        "--arch",
        "wasm32",
        "--annotation",
        "module.wasm.image/variant=compat",
        "--cmd",
        "",
        "--entrypoint",
        &entrypoint,
        &made,
    ];
    buildah(&config)?;
    let image = format!("localhost/{name}");
    buildah(&["commit", "--format=oci", &made, &image])?;
    Ok(image)
}

pub(crate) fn configuration(address: &str, folder: &Path) -> String {
    let data = folder.join("data");
    format!(
        "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp:\n  addr: {address}\n  secret: tests\n",
        data.display()
    )
}

/// TLS and a password, for the end of a configuration.
pub(crate) fn guard(folder: &Path, pki: &Pki) -> Result<String> {
    let passwords = folder.join("htpasswd");
    std::fs::write(&passwords, HTPASSWD)?;
    // The configuration ends within `http`, which goes on here.
    Ok(format!(
        "  tls: {{certificate: {}, key: {}}}\nauth: {{htpasswd: {{realm: tests, path: {}}}}}\n",
        pki.path("apiserver.crt").display(),
        pki.path("apiserver.key").display(),
        passwords.display()
    ))
}
