//! `coracle play`: a session of the pods that files describe, and of what a watched folder says from
//! one moment to the next.

mod desired;
mod said;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::cli::play::Args;
use crate::cli::{output, stop, user_root};
use crate::dirs::Dirs;
use crate::folder::{Folder, Way, sources as of_folder};
use crate::local::{Options, Session, detach, find, name_of};
use crate::manifest::{self, Manifest, Problem, Problems, Source};
use crate::objects::FileObjects;
use crate::program;
use desired::Desired;

/// What a folder is to a session.
const WAY: Way = Way {
    read: manifest::read,
    tell: |what| eprintln!("coracle: {what}"),
};

/// What a session is to play; a detached one is told it on its standard input.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    /// The root folder, an absolute path.
    root: PathBuf,
    /// The files that were named.
    sources: Vec<Source>,
    /// The folder that is followed, an absolute path.
    watch: Option<PathBuf>,
    quiet: bool,
    command: Vec<String>,
}

/// Plays what `args` name; gives the exit code.
///
/// # Errors
/// When a file is wrong, a name is taken, or no guest of a pod ran.
pub(crate) fn run(args: &Args) -> anyhow::Result<u8> {
    let root = match &args.root_dir {
        Some(root) => root.clone(),
        None => user_root()?,
    };
    let absolute =
        |path: &Path| std::path::absolute(path).with_context(|| format!("{}", path.display()));
    let job = Job {
        root: absolute(&root)?,
        sources: sources(&args.files)?,
        watch: args.watch.as_deref().map(absolute).transpose()?,
        quiet: args.quiet,
        command: std::env::args().collect(),
    };
    // What is wrong is said before anything begins, also of one in the background.
    let manifest = job.manifest()?;
    if args.down || args.replace {
        program::log("warn");
        remove(&Dirs::open(&job.root)?, &manifest, args.down)?;
        if args.down {
            return Ok(0);
        }
    }
    if args.detach {
        return detached(&job, &manifest);
    }
    program::log("warn");
    let runtime = runtime()?;
    let code = runtime.block_on(attached(job, manifest, args.events));
    runtime.shutdown_background();
    code
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

fn sources(files: &[PathBuf]) -> Result<Vec<Source>, Problems> {
    let mut sources = Vec::new();
    let mut problems: Vec<Problem> = Vec::new();
    for file in files {
        match Source::read(file) {
            Ok(source) => sources.push(source),
            Err(problem) => problems.push(problem),
        }
    }
    match problems.is_empty() {
        true => Ok(sources),
        false => Err(Problems(problems)),
    }
}

impl Job {
    /// What the files and the folder say now.
    fn manifest(&self) -> anyhow::Result<Manifest> {
        let mut sources = self.sources.clone();
        if let Some(folder) = &self.watch {
            sources.extend(of_folder(folder)?);
        }
        let manifest = manifest::read(&sources)?;
        if manifest.pods.is_empty() && self.watch.is_none() {
            let names: Vec<&str> = sources.iter().map(|s| s.name.as_str()).collect();
            anyhow::bail!(
                "{}: no Pod and no Deployment to play; name a file that has one",
                names.join(", ")
            );
        }
        Ok(manifest)
    }

    async fn session(&self, objects: &Arc<FileObjects>) -> anyhow::Result<Session> {
        let follows = self.watch.is_some();
        Session::open(Options {
            quiet: self.quiet,
            // What is missing now may be in a file tomorrow.
            patient: follows,
            lasting: follows,
            command: self.command.clone(),
            objects: objects.clone(),
            ..Options::new(self.root.clone())
        })
        .await
    }

    /// Plays in a session that is open.
    async fn begin(
        self,
        session: &Session,
        objects: Arc<FileObjects>,
        manifest: Manifest,
    ) -> anyhow::Result<()> {
        let mut desired = Desired::new(session.clone(), objects);
        let Some(folder) = self.watch else {
            let wrongs = desired.reach(manifest).await;
            return match wrongs.into_iter().next() {
                Some(first) => {
                    session.stop_all();
                    Err(first)
                }
                None => Ok(()),
            };
        };
        let followed = Folder::follow(folder, self.sources, WAY);
        let (mut folder, latest) = followed.inspect_err(|_| session.stop_all())?;
        tell(desired.reach(latest.unwrap_or(manifest)).await);
        tokio::spawn(async move {
            loop {
                let manifest = folder.changed().await;
                tell(desired.reach(manifest).await);
            }
        });
        Ok(())
    }
}

fn tell(wrongs: Vec<anyhow::Error>) {
    for error in wrongs {
        eprintln!("coracle: {error:#}");
    }
}

async fn attached(job: Job, manifest: Manifest, events: bool) -> anyhow::Result<u8> {
    let objects = Arc::new(FileObjects::default());
    let session = job.session(&objects).await?;
    let dirs = Dirs::open(&job.root)?;
    let said = said::follow(&session, dirs, events);
    // Before its end is waited for: a session without pods is at its end.
    let begun = job.begin(&session, objects, manifest).await;
    let code = session.until_done().await;
    said.end().await;
    begun?;
    code
}

fn detached(job: &Job, manifest: &Manifest) -> anyhow::Result<u8> {
    let code = detach::start("play", job)?;
    if code == 0 {
        let names = manifest.pods.keys().map(|(_, name)| format!("{name}\n"));
        output::out(names.collect::<String>().as_bytes())?;
    }
    Ok(code)
}

/// `coracle internal play`: a session in the background.
///
/// # Errors
/// As [`run`].
pub(crate) fn main() -> anyhow::Result<u8> {
    program::log("warn");
    let job: Job = detach::job()?;
    let runtime = runtime()?;
    let code = runtime.block_on(async {
        let manifest = job.manifest()?;
        let objects = Arc::new(FileObjects::default());
        let session = job.session(&objects).await?;
        if let Err(error) = job.begin(&session, objects, manifest).await {
            session.until_done().await?;
            return Err(error);
        }
        detach::in_background(session).await
    });
    runtime.shutdown_background();
    code
}

/// Removes the pods that have the manifest's names.
fn remove(dirs: &Dirs, manifest: &Manifest, told: bool) -> anyhow::Result<()> {
    for found in find::all(dirs) {
        let (namespace, name) = name_of(&found.record.pod);
        let named = (namespace.to_owned(), name.to_owned());
        if manifest.pods.contains_key(&named) {
            stop::remove(dirs, &found, true)
                .with_context(|| format!("pod {namespace}/{name} can't be removed"))?;
            if told {
                output::out(format!("{name}\n").as_bytes())?;
            }
        }
    }
    Ok(())
}
