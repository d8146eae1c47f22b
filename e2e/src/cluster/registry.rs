//! A registry on every host's own loopback, all with the same images: a node pulls over plain HTTP from there alone. And
//! one on the first host for both, with TLS and a password.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{Cluster, Host, PATIENCE};
use crate::child::poll;
use crate::registry;

/// The beginning of its images' names.
const ADDRESS: &str = "127.0.0.1:5000";

/// The same of the private one.
const PRIVATE: &str = "172.30.0.1:5443";

impl Cluster {
    /// Makes a compat image of one module with buildah, and pushes it. Gives its full name, by which every host has it.
    ///
    /// # Errors
    /// If buildah fails, with what it said.
    pub fn push_module(&self, name: &str, module: &Path) -> Result<String> {
        let buildah = |arguments: &[&str]| self.buildah(arguments);
        let image = registry::module_image(&buildah, name, module)?;
        let full = format!("{ADDRESS}/{name}");
        self.buildah(&[
            "push",
            "--tls-verify=false",
            &image,
            &format!("docker://{full}"),
        ])?;
        Ok(full)
    }

    /// As [`Cluster::push_module`], to the private registry.
    ///
    /// # Errors
    /// If buildah fails, with what it said.
    pub fn push_private(&self, name: &str, module: &Path) -> Result<String> {
        let buildah = |arguments: &[&str]| self.buildah(arguments);
        let image = registry::module_image(&buildah, name, module)?;
        let full = format!("{PRIVATE}/{name}");
        let authorities = self.authorities(self.host(0)?).display().to_string();
        let access = ["push", "--creds", registry::USER, "--cert-dir"];
        let to = format!("docker://{full}");
        self.buildah(&[&access[..], &[&authorities, &image, &to]].concat())?;
        Ok(full)
    }

    /// The private registry's address, its user and the password.
    pub fn private_registry(&self) -> (&'static str, &'static str, &'static str) {
        let (user, password) = registry::USER.split_once(':').unwrap_or_default();
        (PRIVATE, user, password)
    }

    /// Where a host's nodes keep whom to trust of the private registry.
    fn authorities(&self, host: &Host) -> PathBuf {
        let trusted = host.config().join("containers/certs.d");
        trusted.join(PRIVATE)
    }

    fn start_private(&mut self) -> Result<()> {
        let folder = self.dir().join("private");
        std::fs::create_dir_all(&folder)?;
        let mut text = registry::configuration(PRIVATE, &folder);
        text.push_str(&registry::guard(&folder, &self.pki)?);
        let config = folder.join("config.yaml");
        std::fs::write(&config, text)?;
        for host in &self.hosts {
            let trusted = self.authorities(host);
            std::fs::create_dir_all(&trusted)?;
            std::fs::copy(self.pki.path("ca.crt"), trusted.join("ca.crt"))?;
        }
        let host = self.host(0)?;
        let mut command = host.command(&self.programs.path("registry"));
        command.arg("serve").arg(&config);
        let started = host.run("private-registry", command)?;
        self.processes.push(started);
        Ok(())
    }

    pub(super) async fn start_registries(&mut self) -> Result<()> {
        self.start_private()?;
        let folder = self.dir().join("registry");
        std::fs::create_dir_all(&folder)?;
        let config = folder.join("config.yaml");
        std::fs::write(&config, registry::configuration(ADDRESS, &folder))?;
        let program = self.programs.path("registry");
        let mut started = Vec::new();
        for host in &self.hosts {
            let mut command = host.command(&program);
            command.arg("serve").arg(&config);
            started.push(host.run("registry", command)?);
        }
        self.processes.extend(started);
        for host in &self.hosts {
            let url = format!("http://{ADDRESS}/v2/");
            let client = self.programs.path("testapp");
            let answers = poll(PATIENCE, || async {
                let asked = host.in_network(&client).args(["get", &url]).output();
                asked.is_ok_and(|said| said.status.success()).then_some(())
            });
            let lack = || format!("the registry of host {} does not answer", host.name());
            answers.await.with_context(lack)?;
        }
        Ok(())
    }

    fn buildah(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.host(0)?.in_network(Path::new("buildah"));
        registry::run_buildah(&mut command, &self.dir().join("registry"), arguments)
    }
}

/// As [`Cluster::push_module`], to a registry of others, in which nobody is asked for a password. Images are made in
/// `folder`.
///
/// # Errors
/// If buildah fails, with what it said.
pub fn push_module_to(server: &str, folder: &Path, name: &str, module: &Path) -> Result<String> {
    let run =
        |arguments: &[&str]| registry::run_buildah(&mut Command::new("buildah"), folder, arguments);
    let image = registry::module_image(&run, name, module)?;
    let full = format!("{server}/{name}");
    let to = format!("docker://{full}");
    run(&["push", "--tls-verify=false", &image, &to])?;
    Ok(full)
}
