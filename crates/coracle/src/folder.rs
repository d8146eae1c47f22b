//! A folder whose files are what is to run: read at first, and again whenever one has changed.
//!
//! A file that is wrong is told, and counts as it was when it was right. Editors' temporary files
//! (hidden, or of another ending) are none. Must not know: who follows, and what comes of the pods.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::manifest::{Manifest, Problems, Source};

/// After a change it is waited so long for the next one: an editor makes several.
const QUIET: Duration = Duration::from_millis(100);
/// So many changes are waited for.
const ROUNDS: u32 = 20;
/// How often a folder that is gone is looked for.
const AGAIN: Duration = Duration::from_secs(1);

/// What the folder's files say, each by itself not yet looked at.
///
/// # Errors
/// When the folder can't be read; when a file can't.
pub(crate) fn sources(folder: &Path) -> anyhow::Result<Vec<Source>> {
    let mut sources = Vec::new();
    for path in files(folder)? {
        sources.push(Source::read(&path).map_err(|problem| Problems(vec![problem]))?);
    }
    Ok(sources)
}

/// The folder's YAML and JSON files, in the order of their names.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let named = || format!("the folder {} can't be read", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(named)? {
        let path = entry.with_context(named)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let known = path
            .extension()
            .is_some_and(|end| end == "yaml" || end == "yml" || end == "json");
        if known && !name.starts_with('.') && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// What a folder's files are read as, and where it is told what is wrong with them.
#[derive(Clone, Copy)]
pub(crate) struct Way {
    /// Reads files together.
    pub(crate) read: fn(&[Source]) -> Result<Manifest, Problems>,
    /// Tells lines of text.
    pub(crate) tell: fn(&str),
}

/// A folder that is followed.
pub(crate) struct Folder {
    path: PathBuf,
    way: Way,
    /// What was named beside it, and stays.
    named: Vec<Source>,
    /// Each file as it was when it was right.
    good: BTreeMap<PathBuf, Source>,
    /// The files that agreed with each other when last read.
    agreed: BTreeSet<PathBuf>,
    /// What was told last, so that it is not told again and again.
    told: String,
    watch: Watch,
}

impl Folder {
    /// Follows a folder; gives also what its files say now, as far as they are right.
    ///
    /// # Errors
    /// When it is none, can't be read, or the kernel has no more watches to give.
    pub(crate) fn follow(
        path: PathBuf,
        named: Vec<Source>,
        way: Way,
    ) -> anyhow::Result<(Folder, Option<Manifest>)> {
        let watch = Watch::of(&path)?;
        let mut folder = Folder {
            path,
            way,
            named,
            good: BTreeMap::new(),
            agreed: BTreeSet::new(),
            told: String::new(),
            watch,
        };
        let manifest = folder.look();
        Ok((folder, manifest))
    }

    /// Waits for a change, and gives what the files say then, as far as they are right.
    pub(crate) async fn changed(&mut self) -> Manifest {
        loop {
            self.watch.changed(&self.path).await;
            if let Some(manifest) = self.look() {
                return manifest;
            }
        }
    }

    /// Reads the files; `None` if they can't be.
    fn look(&mut self) -> Option<Manifest> {
        let files = match files(&self.path) {
            Ok(files) => files,
            Err(error) => {
                self.tell(format!("{error:#}; its pods go on"));
                return None;
            }
        };
        let mut wrongs = Vec::new();
        self.good.retain(|path, _| files.contains(path));
        for path in files {
            // By itself first, so that one that is wrong holds up no other.
            let read = Source::read(&path).map_err(|problem| Problems(vec![problem]));
            let read = read
                .and_then(|source| (self.way.read)(std::slice::from_ref(&source)).map(|_| source));
            match read {
                Ok(source) => {
                    self.good.insert(path, source);
                }
                Err(problems) => wrongs.push(problems.to_string()),
            }
        }
        let manifest = self.together(&mut wrongs);
        let told = match wrongs.is_empty() {
            true => String::new(),
            false => format!("{}\nwhat was right before goes on", wrongs.join("\n")),
        };
        self.tell(told);
        manifest
    }

    /// Reads the files that are right by themselves together. One that contradicts another is left
    /// out, and of two the one that came later; `None` if what was named contradicts itself.
    fn together(&mut self, wrongs: &mut Vec<String>) -> Option<Manifest> {
        let (old, new): (Vec<&PathBuf>, Vec<&PathBuf>) = self
            .good
            .keys()
            .partition(|path| self.agreed.contains(*path));
        let mut paths: Vec<PathBuf> = old.into_iter().chain(new).cloned().collect();
        loop {
            let files = paths.iter().filter_map(|path| self.good.get(path));
            let all: Vec<Source> = self.named.iter().chain(files).cloned().collect();
            let problems = match (self.way.read)(&all) {
                Ok(manifest) => {
                    self.agreed = paths.into_iter().collect();
                    return Some(manifest);
                }
                Err(problems) => problems,
            };
            wrongs.push(problems.to_string());
            let before = paths.len();
            let wrong = |path: &PathBuf| {
                let name = path.display().to_string();
                problems.0.iter().any(|problem| problem.file == name)
            };
            paths.retain(|path| !wrong(path));
            if paths.len() == before {
                return None;
            }
        }
    }

    fn tell(&mut self, what: String) {
        if !what.is_empty() && what != self.told {
            (self.way.tell)(&what);
        }
        self.told = what;
    }
}

/// Tells that something in a folder has changed.
struct Watch {
    inotify: AsyncFd<OwnedFd>,
    /// The folder was moved or removed.
    lost: bool,
}

impl Watch {
    /// A folder that is not there is waited for.
    fn of(folder: &Path) -> anyhow::Result<Watch> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .context("no folder can be watched: the kernel has no inotify instance left (fs.inotify.max_user_instances)")?;
        let lost = match add(&inotify, folder) {
            Ok(_) => false,
            Err(rustix::io::Errno::NOENT) => true,
            Err(error) => {
                let named = || format!("{} can't be watched as a folder", folder.display());
                return Err(error).with_context(named);
            }
        };
        // SAFETY: the descriptor is the AsyncFd's own from here on, which neither closes nor replaces it
        // while it is registered.
        let inotify = unsafe { AsyncFd::register_with_interest(inotify, Interest::READABLE) };
        Ok(Watch {
            inotify: inotify.map_err(std::io::Error::from)?,
            lost,
        })
    }

    async fn changed(&mut self, folder: &Path) {
        while self.lost {
            tokio::time::sleep(AGAIN).await;
            if add(self.inotify.get_ref(), folder).is_ok() {
                self.lost = false;
                return;
            }
        }
        self.drain().await;
        // One that never rests is looked at all the same.
        for _ in 0..ROUNDS {
            let more = tokio::time::timeout(QUIET, self.drain()).await;
            if more.is_err() || self.lost {
                break;
            }
        }
    }

    /// Waits for the next change, and takes it and all that came with it.
    async fn drain(&mut self) {
        let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
        let Ok(mut ready) = self.inotify.readable().await else {
            self.lost = true;
            return;
        };
        let mut reader = inotify::Reader::new(self.inotify.get_ref(), &mut buffer);
        let gone = inotify::ReadFlags::DELETE_SELF
            | inotify::ReadFlags::MOVE_SELF
            | inotify::ReadFlags::IGNORED;
        loop {
            match reader.next() {
                Ok(event) if event.events().intersects(gone) => self.lost = true,
                Ok(_) => {}
                Err(_) => break,
            }
        }
        ready.clear_ready();
    }
}

fn add(inotify: &OwnedFd, folder: &Path) -> rustix::io::Result<i32> {
    let flags = WatchFlags::CLOSE_WRITE
        | WatchFlags::MOVED_TO
        | WatchFlags::MOVED_FROM
        | WatchFlags::DELETE
        // A link is made, and never written.
        | WatchFlags::CREATE
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF
        | WatchFlags::ONLYDIR;
    inotify::add_watch(inotify, folder, flags)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::manifest;

    const PLAY: Way = Way {
        read: manifest::read,
        tell: |_| {},
    };

    fn pod(name: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c, image: 'a:1'}}]}}\n"
        )
    }

    fn names(manifest: &Manifest) -> Vec<&str> {
        manifest
            .pods
            .keys()
            .map(|(_, name)| name.as_str())
            .collect()
    }

    async fn next(folder: &mut Folder) -> Manifest {
        tokio::time::timeout(Duration::from_secs(60), folder.changed())
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn files_come_change_break_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("a.yaml"), pod("a")).unwrap();
        let (mut folder, first) = Folder::follow(dir.path().to_owned(), Vec::new(), PLAY).unwrap();
        assert_eq!(names(&first.unwrap()), ["a"]);
        // As an editor does it: another file takes its place.
        std::fs::write(path(".b.yaml.swp"), "{").unwrap();
        std::fs::write(path("b.tmp"), pod("b")).unwrap();
        std::fs::rename(path("b.tmp"), path("b.yaml")).unwrap();
        assert_eq!(names(&next(&mut folder).await), ["a", "b"]);
        // A broken one stays what it was, and holds up no other.
        std::fs::write(path("a.yaml"), "kind: [").unwrap();
        std::fs::write(
            path("c.json"),
            r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m"}}"#,
        )
        .unwrap();
        let manifest = next(&mut folder).await;
        assert_eq!(names(&manifest), ["a", "b"]);
        assert_eq!(manifest.config_maps.len(), 1);
        std::fs::remove_file(path("a.yaml")).unwrap();
        assert_eq!(names(&next(&mut folder).await), ["b"]);
        // Two of one name are nobody's wish: the one that was there first goes on, and so do others.
        std::fs::write(path("a.yaml"), pod("b").replace("a:1", "other:1")).unwrap();
        std::fs::write(path("e.yaml"), pod("e")).unwrap();
        let manifest = next(&mut folder).await;
        assert_eq!(names(&manifest), ["b", "e"]);
        let image = |manifest: &Manifest| {
            let pod = &manifest.pods[&("default".to_owned(), "b".to_owned())];
            pod.spec.as_ref().unwrap().containers[0].image.clone()
        };
        assert_eq!(image(&manifest).as_deref(), Some("a:1"));
        assert!(folder.told.contains("a second Pod"), "{}", folder.told);
        std::fs::remove_file(path("b.yaml")).unwrap();
        let manifest = next(&mut folder).await;
        assert_eq!(image(&manifest).as_deref(), Some("other:1"));
        assert_eq!(folder.told, "");
    }

    #[tokio::test]
    async fn a_folder_that_goes_and_comes_back_is_followed_again() {
        let top = tempfile::tempdir().unwrap();
        let dir = top.path().join("pods");
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("a.yaml"), pod("a")).unwrap();
        let (mut folder, _) = Folder::follow(dir.clone(), Vec::new(), PLAY).unwrap();
        std::fs::rename(&dir, top.path().join("away")).unwrap();
        let back = top.path().join("away");
        std::fs::write(back.join("b.yaml"), pod("b")).unwrap();
        std::fs::rename(&back, &dir).unwrap();
        assert_eq!(names(&next(&mut folder).await), ["a", "b"]);
    }

    #[tokio::test]
    async fn a_folder_that_is_yet_to_come_is_waited_for() {
        let top = tempfile::tempdir().unwrap();
        let dir = top.path().join("pods");
        let (mut folder, first) = Folder::follow(dir.clone(), Vec::new(), PLAY).unwrap();
        assert_eq!(first, None);
        let beside = top.path().join("beside");
        std::fs::create_dir(&beside).unwrap();
        std::fs::write(beside.join("a.yaml"), pod("a")).unwrap();
        std::fs::rename(&beside, &dir).unwrap();
        assert_eq!(names(&next(&mut folder).await), ["a"]);
    }

    #[tokio::test]
    async fn a_file_is_no_folder() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refused = Folder::follow(file.path().to_owned(), Vec::new(), PLAY);
        let error = refused.map(|_| ()).unwrap_err();
        assert!(format!("{error:#}").contains("can't be watched as a folder"));
    }

    #[test]
    fn a_folder_that_is_none_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let absent = dir.path().join("absent");
        let error = sources(&absent).unwrap_err();
        assert!(format!("{error:#}").contains("absent"), "{error:#}");
    }
}
