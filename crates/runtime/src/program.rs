//! Loaded code: mapped once for all guests that run it, linked once, dropped with the last of them.
//!
//! A file is known by its inode, which can't be another's while it is mapped. The descriptor comes
//! from who compiled it, and is believed: forged code is native code.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use wasmtime::component::{self, Component};
use wasmtime::{Engine, ExternType, InstancePre, Linker, Module, Precompiled, UnknownImportError};

use crate::component::Composed;
use crate::engine::Calls;
use crate::http::Proxy;
use crate::instance::{self, Core, START};
use crate::spec::StartError;

/// Mappings of a live instance beyond its memories: a stack and its guard page, and a part of
/// what the allocator maps.
const MAPPINGS: u64 = 3;

/// Mappings of a linear memory: reserved, image, zeroes, reserved. Without an image it is two, and
/// a test counts that no guest has more than it was promised.
const MAPPINGS_PER_MEMORY: u64 = 4;

/// Memories of a component that imports modules, which says no number.
const COMPOSED_MEMORIES: u64 = 4;

/// Code that is ready to be instantiated.
pub(crate) enum Program {
    /// A core module.
    Core(InstancePre<Core>),
    /// A component.
    Component(component::InstancePre<Composed>),
}

impl Program {
    /// Mappings that a live instance has.
    pub(crate) fn mappings(&self) -> u64 {
        let memories = match self {
            Program::Core(pre) => {
                let required = pre.module().resources_required();
                u64::from(required.num_memories)
            }
            Program::Component(pre) => {
                let required = pre.component().resources_required();
                required.map_or(COMPOSED_MEMORIES, |required| {
                    u64::from(required.num_memories)
                })
            }
        };
        MAPPINGS + memories * MAPPINGS_PER_MEMORY
    }

    /// The component as one that is asked for each request.
    ///
    /// # Errors
    /// [`StartError::Entry`] if it is none.
    pub(crate) fn proxy(&self) -> Result<Proxy, StartError> {
        let problem = match self {
            Program::Core(_) => "a core module can't have it".to_owned(),
            Program::Component(pre) => match Proxy::new(pre) {
                Ok(proxy) => return Ok(proxy),
                Err(error) => format!("{error:#}"),
            },
        };
        Err(StartError::Entry {
            export: "wasi:http/incoming-handler".to_owned(),
            problem,
        })
    }

    /// Checks that there is a function to run.
    ///
    /// # Errors
    /// [`StartError::Entry`]
    pub(crate) fn check_entry(&self, export: Option<&str>) -> Result<(), StartError> {
        match self {
            Program::Core(pre) => check_core(pre.module(), export),
            Program::Component(pre) => check_component(pre.component(), export),
        }
    }
}

fn check_core(module: &Module, export: Option<&str>) -> Result<(), StartError> {
    let name = export.unwrap_or(START);
    let problem = match module.get_export(name) {
        Some(ExternType::Func(ty)) if ty.params().len() == 0 && ty.results().len() == 0 => {
            return Ok(());
        }
        Some(ExternType::Func(ty)) => format!(
            "it takes {} values and returns {}, and only a function that takes and returns none can be run",
            ty.params().len(),
            ty.results().len()
        ),
        Some(_) => "what it exports by that name is no function".to_owned(),
        None => format!(
            "it exports {}: build it as a command, or name a function after a # in the entrypoint",
            listed(
                module
                    .exports()
                    .filter(|e| matches!(e.ty(), ExternType::Func(_)))
                    .map(|e| e.name().to_owned())
            )
        ),
    };
    Err(StartError::Entry {
        export: name.to_owned(),
        problem,
    })
}

fn check_component(component: &Component, export: Option<&str>) -> Result<(), StartError> {
    if crate::component::entry(component, export).is_some() {
        return Ok(());
    }
    let ty = component.component_type();
    let names = ty
        .exports(component.engine())
        .map(|(name, _)| name.to_owned());
    Err(StartError::Entry {
        export: export.unwrap_or("wasi:cli/run").to_owned(),
        problem: format!(
            "it exports {}: build it for the world wasi:cli/command 0.2",
            listed(names)
        ),
    })
}

/// Some names for a message.
fn listed(names: impl Iterator<Item = String>) -> String {
    let mut names: Vec<_> = names.take(9).collect();
    match names.len() {
        0 => return "no function".to_owned(),
        9 => "…".clone_into(names.last_mut().unwrap_or(&mut String::new())),
        _ => {}
    }
    names.join(", ")
}

/// A file, as long as it is the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Inode {
    device: u64,
    number: u64,
    size: i64,
    changed: (i64, i64),
}

/// What is loaded of one file: the lock makes the second that wants it wait for the first.
type Entry = Arc<Mutex<Weak<Program>>>;

/// All that is loaded, and what it is linked to.
pub(crate) struct Programs {
    engine: Engine,
    calls: Calls,
    core: Linker<Core>,
    /// Made for the first component: a process that runs none does without.
    component: OnceLock<component::Linker<Composed>>,
    loaded: Mutex<HashMap<Inode, Entry>>,
}

impl Programs {
    /// Nothing loaded yet.
    ///
    /// # Errors
    /// The worlds don't link: a bug.
    pub(crate) fn new(engine: Engine, calls: Calls) -> wasmtime::Result<Programs> {
        let core = instance::core_linker(&engine)?;
        Ok(Programs {
            engine,
            calls,
            core,
            component: OnceLock::new(),
            loaded: Mutex::new(HashMap::new()),
        })
    }

    /// Loads a file, or answers with what is loaded of it. May block on the disk.
    ///
    /// # Errors
    /// [`StartError::Code`] if it is no code of this engine, [`StartError::Import`] if it wants
    /// what no world has.
    pub(crate) fn load(&self, code: OwnedFd) -> Result<Arc<Program>, StartError> {
        let entry = self.entry(inode(&code)?);
        let mut loaded = entry.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = loaded.upgrade() {
            return Ok(program);
        }
        let program = Arc::new(self.map(File::from(code))?);
        *loaded = Arc::downgrade(&program);
        Ok(program)
    }

    fn entry(&self, inode: Inode) -> Entry {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = loaded.get(&inode) {
            return Arc::clone(entry);
        }
        // What nobody runs any more goes when something new comes.
        loaded.retain(|_, entry| {
            Arc::strong_count(entry) > 1
                || entry.lock().is_ok_and(|program| program.strong_count() > 0)
        });
        Arc::clone(loaded.entry(inode).or_default())
    }

    fn component_linker(&self) -> Result<&component::Linker<Composed>, StartError> {
        if let Some(linker) = self.component.get() {
            return Ok(linker);
        }
        let linker = crate::component::linker(&self.engine, self.calls).map_err(|error| {
            StartError::System {
                what: "make the world of components".to_owned(),
                message: format!("{error:#}"),
            }
        })?;
        Ok(self.component.get_or_init(|| linker))
    }

    fn map(&self, code: File) -> Result<Program, StartError> {
        let path = format!("/proc/self/fd/{}", code.as_raw_fd());
        match Engine::detect_precompiled_file(&path).map_err(damaged)? {
            Some(Precompiled::Module) => {
                // SAFETY: who gave the descriptor vouches that its compile child wrote the file and
                // that nobody else could; the engine checks that it is for this configuration.
                let module = unsafe { Module::deserialize_open_file(&self.engine, code) }
                    .map_err(damaged)?;
                self.core
                    .instantiate_pre(&module)
                    .map(Program::Core)
                    .map_err(unlinked)
            }
            Some(Precompiled::Component) => {
                // SAFETY: as above; the path is that of the descriptor.
                let component =
                    unsafe { Component::deserialize_file(&self.engine, path) }.map_err(damaged)?;
                self.component_linker()?
                    .instantiate_pre(&component)
                    .map(Program::Component)
                    .map_err(unlinked)
            }
            None => Err(StartError::Code {
                message: "the file is no compiled code".to_owned(),
            }),
        }
    }
}

fn inode(code: &OwnedFd) -> Result<Inode, StartError> {
    let stat = rustix::fs::fstat(code).map_err(|error| StartError::System {
        what: "look at the code's file".to_owned(),
        message: error.to_string(),
    })?;
    #[allow(clippy::unnecessary_cast)]
    Ok(Inode {
        device: stat.st_dev as u64,
        number: stat.st_ino as u64,
        size: stat.st_size as i64,
        changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
    })
}

fn damaged(error: wasmtime::Error) -> StartError {
    StartError::Code {
        message: format!("{error:#}"),
    }
}

fn unlinked(error: wasmtime::Error) -> StartError {
    match error.downcast_ref::<UnknownImportError>() {
        Some(unknown) => StartError::Import {
            import: format!("{}.{}", unknown.module(), unknown.name()),
            problem: "no world has".to_owned(),
        },
        None => {
            // What is there and does not fit is named only in the error's text, as `name`.
            let text = format!("{error:#}");
            let import = text
                .split('`')
                .nth(1)
                .unwrap_or("something")
                .replace("::", ".");
            StartError::Import {
                import,
                problem: format!("can't be linked: {text}"),
            }
        }
    }
}
