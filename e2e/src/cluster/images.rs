//! The Linux images of a cluster, made by buildah of programs that were just built: the sandbox, CoreDNS, and a small
//! server and client for tests. No registry is asked.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{Host, PATIENCE};
use crate::child::poll;
use crate::programs::Programs;

/// Name, entrypoint, and the program that is all of it.
const IMAGES: [(&str, &str, &str); 3] = [
    ("pause:1", r#"["/testapp","pause"]"#, "testapp"),
    ("testapp:1", r#"["/testapp","serve",":8080"]"#, "testapp"),
    ("coredns:1", r#"["/coredns"]"#, "coredns"),
];

/// See the module.
pub(super) struct Images {
    archives: Vec<PathBuf>,
}

impl Images {
    pub(super) fn build(programs: &Programs, dir: &Path) -> Result<Images> {
        let folder = dir.join("images");
        std::fs::create_dir_all(&folder)?;
        let mut archives = Vec::new();
        for (name, entrypoint, program) in IMAGES {
            let archive = folder.join(format!("{}.tar", name.replace(':', "-")));
            let script = r#"set -e
                b() { buildah --root "$dir/store" --runroot "$dir/run" --storage-driver vfs "$@"; }
                dir=$1; c=$(b from scratch)
                b copy -q "$c" "$2" "/$3"
                b config --entrypoint "$4" --cmd '' "$c"
                b commit -q --format oci "$c" "localhost/$5"
                b push -q "localhost/$5" "oci-archive:$6:localhost/$5"
                b rm "$c""#;
            let output = Command::new("sh")
                .args(["-c", script, "e2e-images"])
                .arg(&folder)
                .arg(programs.path(program))
                .args([program, entrypoint, name])
                .arg(&archive)
                .env("BUILDAH_ISOLATION", "chroot")
                .output()
                .context("running buildah")?;
            ensure!(
                output.status.success(),
                "the image {name} can't be built: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
            archives.push(archive);
        }
        Ok(Images { archives })
    }

    /// Brings them to a host's containerd, once it answers.
    pub(super) async fn import(&self, host: &Host) -> Result<()> {
        for archive in &self.archives {
            let imported = poll(PATIENCE, || async {
                let mut ctr = host.command(Path::new("ctr"));
                ctr.args(["-n", "k8s.io", "images", "import"]).arg(archive);
                ctr.output()
                    .is_ok_and(|output| output.status.success())
                    .then_some(())
            });
            imported
                .await
                .with_context(|| format!("containerd takes no {}", archive.display()))?;
        }
        Ok(())
    }
}
