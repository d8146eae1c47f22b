//! A folder of a test's own, with its files and a root: commands are run in it, and see nothing else.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::{CORACLE, Ended, Root, Running};

pub struct Place(pub TempDir);

impl Place {
    pub fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn root(&self) -> Root {
        Root(self.path("root"))
    }

    /// Puts a file there; gives its path.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// `coracle` with these arguments.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(CORACLE);
        command
            .args(args)
            .current_dir(self.0.path())
            .env_clear()
            .env("CORACLE_ROOT", self.path("root"))
            .stdin(Stdio::null());
        command
    }

    pub fn coracle(&self, args: &[&str]) -> Ended {
        self.start(args).end()
    }

    pub fn start(&self, args: &[&str]) -> Running {
        Running::spawn(&mut self.command(args))
    }
}
