//! A registry on every host's own loopback, all with the same images: a node pulls over plain HTTP from there alone.

use std::path::Path;

use anyhow::{Context, Result};

use super::{Cluster, PATIENCE};
use crate::child::poll;
use crate::registry;

/// The beginning of its images' names.
const ADDRESS: &str = "127.0.0.1:5000";

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

    pub(super) async fn start_registries(&mut self) -> Result<()> {
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
