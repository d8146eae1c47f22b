//! Where the pods are that a command is about.

use std::path::PathBuf;

use clap::ValueHint;

use super::user_root;
use crate::dirs::Dirs;
use crate::local::alive;

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
