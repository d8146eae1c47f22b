//! Where the pods are that a command is about, and which container of one.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::ValueHint;

use super::user_root;
use crate::dirs::Dirs;
use crate::local::alive;
use crate::local::find::Found;

/// `--root-dir`, as `coracle run` has it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Root {
    /// Where `coracle run` keeps its things
    #[arg(long, value_name = "DIR", env = "CORACLE_ROOT", value_hint = ValueHint::DirPath)]
    root_dir: Option<PathBuf>,
}

impl Root {
    /// The root folder, without what killed sessions left in it.
    ///
    /// # Errors
    /// When there is none, and none can be made.
    pub(crate) fn open(&self) -> anyhow::Result<Dirs> {
        crate::program::log("warn");
        let root = match &self.root_dir {
            Some(root) => root.clone(),
            None => user_root()?,
        };
        let dirs = Dirs::open(&root)?;
        alive::sweep(&dirs);
        Ok(dirs)
    }
}

/// The containers of a pod, init containers first, those that are ephemeral last.
pub(crate) fn containers(found: &Found) -> Vec<String> {
    let spec = found.record.pod.spec.iter();
    let all = spec.flat_map(|spec| {
        let inits = spec.init_containers.iter().flatten();
        let lasting = inits.chain(&spec.containers).map(|one| &one.name);
        let ephemeral = spec.ephemeral_containers.iter().flatten();
        lasting.chain(ephemeral.map(|one| &one.name))
    });
    all.cloned().collect()
}

/// The container that is asked for; without a name the first that is no init container, which is
/// told where there are others.
///
/// # Errors
/// When there is no such container.
pub(crate) fn container(found: &Found, asked: Option<&str>) -> anyhow::Result<String> {
    let all = containers(found);
    if let Some(name) = asked {
        if !all.iter().any(|it| it == name) {
            bail!(
                "pod {} has no container {name:?}; it has {}",
                found.name(),
                all.join(", ")
            );
        }
        return Ok(name.to_owned());
    }
    let spec = found.record.pod.spec.as_ref();
    let first = spec.and_then(|spec| spec.containers.first());
    let first = first.with_context(|| format!("pod {} has no containers", found.name()))?;
    if all.len() > 1 {
        eprintln!(
            "Defaulted container {:?} out of: {}",
            first.name,
            all.join(", ")
        );
    }
    Ok(first.name.clone())
}
