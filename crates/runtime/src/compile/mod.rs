//! Compilation: in a child process with limits, once for each module and engine, kept on disk.
//!
//! The engine bounds neither the time nor the memory that a module costs to compile, and a fault in
//! a compiler that reads hostile input should not be one of the process that runs guests. So a child
//! compiles, [under limits](CompileLimits), and this process has no compiler. What was compiled is in
//! a folder (see [`cache`]) under the module's digest and the compatibility key, which only an
//! engine with a compiler can compute: the child does, once for each binary and boot.
//!
//! It must not know where a module came from, nor how code is run.

mod cache;
mod child;
mod error;
mod gc;
mod inspect;
mod job;
mod limits;
mod sniff;
mod stamp;
mod wire;
mod worlds;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use rustix::fs::{MemfdFlags, OFlags, memfd_create};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use self::cache::{Cache, Entry, Found};
use self::job::{Job, Program};
use self::limits::Share;
use self::wire::{Answer, Compiled, Task};

pub use self::child::compile_child;
pub use self::error::CompileError;
pub use self::gc::Collected;
pub use self::inspect::{ModuleInfo, World};
pub use self::limits::CompileLimits;

/// A module that is to be run.
#[derive(Clone, Debug)]
pub struct ModuleSource {
    /// The SHA-256 of its bytes as they are stored, text or binary. It is believed when the code is
    /// cached, and checked when it is compiled.
    pub digest: [u8; 32],
    /// Where the bytes are. They are not touched if the code is cached.
    pub content: ModuleContent,
    /// Whether it may be a component of preview3.
    pub preview3: bool,
}

/// Where a module's bytes are.
#[derive(Clone, Debug)]
pub enum ModuleContent {
    /// In memory.
    Bytes(Bytes),
    /// In a file.
    Path(PathBuf),
    /// In a file that is open to read, from its start.
    File(Arc<OwnedFd>),
}

/// A module's code.
#[derive(Debug)]
pub struct Code {
    /// The file of it, as the engine loads it, open to read. Nobody changes it in place.
    pub file: OwnedFd,
    /// What the module is.
    pub info: ModuleInfo,
    /// True if nothing had to be compiled.
    pub cached: bool,
}

/// How far a compilation is. One that is cached tells nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompileProgress {
    /// Others are compiled first.
    Queued,
    /// It is being compiled.
    Compiling,
}

type Digest = [u8; 32];
type Shareable = Shared<BoxFuture<'static, Result<(), CompileError>>>;

/// Compiles modules, each once. Clones share everything.
#[derive(Clone)]
pub struct Compiler(Arc<Inner>);

struct Inner {
    cache: Cache,
    program: Program,
    limits: CompileLimits,
    permits: Arc<Semaphore>,
    /// Held by who asks a child for the key until it is learnt, so that it is asked once.
    asking: tokio::sync::Mutex<()>,
    /// One child at a time tells the key; it does not queue behind compilations.
    identify: Arc<Semaphore>,
    /// What is being compiled now; the future lives as long as somebody waits for it.
    running: Mutex<HashMap<(Digest, bool), Running>>,
    /// The compatibility key, once it is known.
    key: Mutex<Option<String>>,
}

struct Running {
    work: WeakShared<BoxFuture<'static, Result<(), CompileError>>>,
    progress: watch::Receiver<CompileProgress>,
}

impl Compiler {
    /// A compiler that keeps code in `cache` (made 0700 if it is not there) and compiles in children
    /// that are `exe` with `args`, which leads them to [`compile_child`]. All children together use
    /// at most half the cores.
    ///
    /// # Errors
    /// [`CompileError::Cache`] if the folder can't be had or is not ours alone.
    pub fn new(
        cache: &Path,
        exe: &Path,
        args: &[OsString],
        limits: CompileLimits,
    ) -> Result<Compiler, CompileError> {
        let share = Share::of(crate::cores());
        Ok(Compiler(Arc::new(Inner {
            cache: Cache::open(cache)?,
            program: Program {
                exe: exe.to_owned(),
                args: args.to_vec(),
                threads: share.threads,
            },
            limits,
            permits: Arc::new(Semaphore::new(share.children)),
            asking: tokio::sync::Mutex::default(),
            identify: Arc::new(Semaphore::new(1)),
            running: Mutex::default(),
            key: Mutex::default(),
        })))
    }

    /// A module's code: from the cache, or compiled now. Asked for twice at once, it is compiled
    /// once; when nobody waits for it any more, its child is killed.
    ///
    /// `progress` is called with each change of what there is to wait for.
    ///
    /// # Errors
    /// What is wrong with the module, or why it could not be compiled or kept. None is remembered.
    pub async fn code(
        &self,
        module: &ModuleSource,
        progress: impl Fn(CompileProgress),
    ) -> Result<Code, CompileError> {
        if let Some(entry) = self.cached(&module.digest).await? {
            return code(entry, module, true);
        }
        let (work, mut told) = self.work(module);
        progress(*told.borrow_and_update());
        let mut done = work;
        loop {
            tokio::select! {
                biased;
                result = &mut done => {
                    result?;
                    break;
                }
                Ok(()) = told.changed() => progress(*told.borrow_and_update()),
            }
        }
        let entry = self.cached(&module.digest).await?;
        let lost = || std::io::Error::other("the cache has lost it");
        let entry = entry
            .ok_or_else(|| CompileError::system("find the code that was just compiled", lost()))?;
        code(entry, module, false)
    }

    /// Removes a module's code, for one that the engine does not take or that is wanted no more.
    ///
    /// # Errors
    /// [`CompileError::Cache`] if the folder can't be written.
    pub async fn discard(&self, digest: &Digest) -> Result<(), CompileError> {
        let key = self.key().await?;
        self.0.cache.remove(&key, &hex::encode(digest))
    }

    /// Removes what older binaries and other machines' engines compiled and nobody used for
    /// `unused`, and what interrupted compilations left. It blocks for as long as that takes.
    ///
    /// # Errors
    /// [`CompileError::System`] if the folder can't be read or written.
    pub fn collect(&self, unused: Duration) -> Result<Collected, CompileError> {
        let key = self.known_key();
        gc::collect(self.0.cache.root(), key.as_deref(), unused)
            .map_err(|error| CompileError::system("collect old code", error))
    }

    /// Looks in the cache. The checksum, if it is due, is computed on a thread for it.
    async fn cached(&self, digest: &Digest) -> Result<Option<Entry>, CompileError> {
        let key = self.key().await?;
        match self.0.cache.find(&key, &hex::encode(digest)) {
            Found::Whole(entry) => Ok(Some(entry)),
            Found::Nothing => Ok(None),
            Found::Unverified(entry) => {
                let inner = Arc::clone(&self.0);
                tokio::task::spawn_blocking(move || inner.cache.verify(entry))
                    .await
                    .map_err(|error| CompileError::System {
                        what: "verify code".to_owned(),
                        message: error.to_string(),
                    })
            }
        }
    }

    /// Joins what is being compiled, or begins.
    fn work(&self, module: &ModuleSource) -> (Shareable, watch::Receiver<CompileProgress>) {
        let mut running = self
            .0
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        running.retain(|_, one| one.work.upgrade().is_some_and(|work| work.peek().is_none()));
        let wanted = (module.digest, module.preview3);
        if let Some(one) = running.get(&wanted)
            && let Some(work) = one.work.upgrade()
        {
            return (work, one.progress.clone());
        }
        let (tell, told) = watch::channel(CompileProgress::Queued);
        let inner = Arc::clone(&self.0);
        let work = compile(inner, module.clone(), tell).boxed().shared();
        if let Some(weak) = work.downgrade() {
            let one = Running {
                work: weak,
                progress: told.clone(),
            };
            running.insert(wanted, one);
        }
        (work, told)
    }

    /// The compatibility key: remembered by this process or in the folder, or asked of a child.
    async fn key(&self) -> Result<String, CompileError> {
        if let Some(key) = self.known_key() {
            return Ok(key);
        }
        let inner = &self.0;
        // The child's permit does not do for this: it comes back before the answer is learnt.
        let _asking = inner.asking.lock().await;
        // Whoever asked before may have learnt it.
        if let Some(key) = self.known_key() {
            return Ok(key);
        }
        let permit = permit(&inner.identify).await?;
        let job = Job::start(
            &inner.program,
            &inner.limits,
            Task::Identify,
            vec![],
            permit,
        )?;
        let key = job.answer().await?.key;
        inner.learn(&key);
        Ok(key)
    }

    fn known_key(&self) -> Option<String> {
        let inner = &self.0;
        let mut known = inner.key.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            let identity = stamp::identity(&inner.program.exe, &inner.program.args).ok();
            *known = identity.and_then(|identity| inner.cache.key(&identity));
        }
        known.clone()
    }
}

impl Inner {
    /// Keeps the key that a child computed.
    fn learn(&self, key: &str) {
        let mut known = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_deref() == Some(key) {
            return;
        }
        *known = Some(key.to_owned());
        if let Ok(identity) = stamp::identity(&self.program.exe, &self.program.args) {
            self.cache.remember(&identity, key);
        }
    }
}

/// What was compiled for one that allows preview3 is there for another that does not.
fn code(entry: Entry, module: &ModuleSource, cached: bool) -> Result<Code, CompileError> {
    if entry.info.preview3 && !module.preview3 {
        return Err(CompileError::Preview3);
    }
    Ok(Code {
        file: entry.file,
        info: entry.info,
        cached,
    })
}

async fn permit(permits: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, CompileError> {
    let permit = Arc::clone(permits).acquire_owned().await;
    // Nobody closes it.
    let closed = std::io::Error::other;
    permit.map_err(|error| CompileError::system("wait for other compilations", closed(error)))
}

/// Compiles a module into the cache.
async fn compile(
    inner: Arc<Inner>,
    module: ModuleSource,
    progress: watch::Sender<CompileProgress>,
) -> Result<(), CompileError> {
    let permit = permit(&inner.permits).await?;
    let digest = hex::encode(module.digest);
    // Whoever looked before another's compilation ended, and asked after it, comes here for nothing.
    let key = inner
        .key
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    if key.is_some_and(|key| matches!(inner.cache.find(&key, &digest), Found::Whole(_))) {
        return Ok(());
    }
    progress.send_replace(CompileProgress::Compiling);
    let bytes = open(&module.content)?;
    let temporary = inner.cache.temporary()?;
    let out = temporary
        .file
        .try_clone()
        .map_err(|error| CompileError::system("write the code", error))?;
    let task = Task::Compile {
        digest: digest.clone(),
        preview3: module.preview3,
    };
    let fds = vec![bytes, out.into()];
    let job = Job::start(&inner.program, &inner.limits, task, fds, permit)?;
    let Answer { key, compiled } = job.answer().await?;
    let none = || std::io::Error::other("the compiling process answered without code");
    let compiled: Compiled = compiled.ok_or_else(|| CompileError::system("compile", none()))?;
    inner.cache.keep(temporary, &key, &digest, compiled)?;
    // It is another one if the binary was replaced since.
    inner.learn(&key);
    Ok(())
}

/// A descriptor that reads the module from its start.
fn open(content: &ModuleContent) -> Result<OwnedFd, CompileError> {
    let unreadable = |error: std::io::Error| CompileError::Source {
        message: error.to_string(),
    };
    match content {
        ModuleContent::Bytes(bytes) => {
            let failed = |error| CompileError::system("hand the module to the compiler", error);
            let file = memfd_create("module", MemfdFlags::CLOEXEC)
                .map_err(|error| failed(error.into()))?;
            let mut file = File::from(file);
            file.write_all(bytes).map_err(failed)?;
            std::io::Seek::rewind(&mut file).map_err(failed)?;
            Ok(file.into())
        }
        // Without O_NONBLOCK a FIFO in the module's place would hang us.
        ModuleContent::Path(path) => {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let file = rustix::fs::open(path, flags, rustix::fs::Mode::empty())
                .map_err(|error| unreadable(error.into()))?;
            regular(file).map_err(unreadable)
        }
        // A new open file: the descriptor's offset is not ours to move.
        ModuleContent::File(file) => {
            use std::os::fd::AsRawFd;
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            let file = File::open(path).map_err(unreadable)?;
            regular(file.into()).map_err(unreadable)
        }
    }
}

fn regular(file: OwnedFd) -> std::io::Result<OwnedFd> {
    let stat = rustix::fs::fstat(&file)?;
    match rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() {
        true => Ok(file),
        false => Err(std::io::Error::other("it is not a regular file")),
    }
}
