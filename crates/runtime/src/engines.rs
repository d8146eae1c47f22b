//! The engines of a guest host, and which of them a guest's code is loaded by: what runs for long
//! is instantiated on demand, what lives for a request comes from a pool, and what calls
//! concurrently has an engine of its own.
//!
//! It must not know what a guest is given, nor what becomes of it.

use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

use wasmtime::Engine;

use crate::engine::{self, Calls};
use crate::http::Pool;
use crate::program::{Program, Programs};
use crate::room::Room;
use crate::spec::StartError;
use crate::ticker::Ticker;

/// See the module.
pub(crate) struct Engines {
    programs: Programs,
    /// The clock of what runs on demand.
    pub(crate) ticker: Arc<Ticker>,
    pub(crate) room: Arc<Room>,
    /// Made for the first server.
    pool: OnceLock<Option<Pool>>,
    /// Made for the first component of preview3.
    concurrent: OnceLock<Result<Concurrent, StartError>>,
}

/// The engine of what calls concurrently.
struct Concurrent {
    programs: Programs,
    ticker: Arc<Ticker>,
}

impl Concurrent {
    fn new() -> Result<Concurrent, StartError> {
        let made = engine::guests(Calls::Concurrent).and_then(|engine| {
            let ticker = Ticker::start(engine.clone())?;
            let programs = Programs::new(engine, Calls::Concurrent)?;
            Ok((programs, ticker))
        });
        let (programs, ticker) = made.map_err(|error| StartError::System {
            what: "make the engine of preview3".to_owned(),
            message: format!("{error:#}"),
        })?;
        Ok(Concurrent {
            programs,
            ticker: Arc::new(ticker),
        })
    }
}

/// Code that is loaded by the engine that it will run on.
pub(crate) struct Loaded {
    pub(crate) program: Arc<Program>,
    /// That engine's clock.
    pub(crate) ticker: Arc<Ticker>,
    /// What has to be promised for it to run.
    pub(crate) mappings: u64,
}

impl Engines {
    /// # Errors
    /// The worlds don't link: a bug.
    pub(crate) fn new(engine: Engine, ticker: Ticker, room: Room) -> wasmtime::Result<Engines> {
        Ok(Engines {
            programs: Programs::new(engine, Calls::Sequential)?,
            ticker: Arc::new(ticker),
            room: Arc::new(room),
            pool: OnceLock::new(),
            concurrent: OnceLock::new(),
        })
    }

    /// Loads what runs once.
    ///
    /// # Errors
    /// See [`Programs::load`] and [`Program::check_entry`].
    pub(crate) fn program(
        &self,
        code: OwnedFd,
        export: Option<&str>,
    ) -> Result<Loaded, StartError> {
        let loaded = self.load(code, 1)?;
        loaded.program.check_entry(export)?;
        Ok(loaded)
    }

    /// Loads what is instantiated for each request, `at_once` times.
    ///
    /// # Errors
    /// See [`Programs::load`].
    pub(crate) fn server(&self, code: OwnedFd, at_once: u32) -> Result<Loaded, StartError> {
        let pool = self.pool.get_or_init(|| Pool::new(&self.room)).as_ref();
        if let Some(pool) = pool {
            match pool.programs.load(copy(&code)?) {
                // It is larger than a slot; or of preview3, for which no pool is kept; or it is
                // damaged, which the other engines say as well.
                Err(StartError::Code { message }) => {
                    tracing::info!(
                        message,
                        "instances are made on demand: the pool refuses them"
                    );
                }
                loaded => {
                    return Ok(Loaded {
                        program: loaded?,
                        ticker: Arc::clone(&pool.ticker),
                        // The pool has been promised its own.
                        mappings: 0,
                    });
                }
            }
        }
        self.load(code, at_once)
    }

    /// Loads what is instantiated on demand, `at_once` times: by the engine that its code is for.
    fn load(&self, code: OwnedFd, at_once: u32) -> Result<Loaded, StartError> {
        let wrong = match self.programs.load(copy(&code)?) {
            Ok(program) => {
                return Ok(Loaded {
                    mappings: program.mappings().saturating_mul(at_once.into()),
                    program,
                    ticker: Arc::clone(&self.ticker),
                });
            }
            Err(StartError::Code { message }) => message,
            Err(error) => return Err(error),
        };
        let concurrent = self.concurrent.get_or_init(Concurrent::new);
        let concurrent = concurrent.as_ref().map_err(Clone::clone)?;
        match concurrent.programs.load(code) {
            Ok(program) => {
                let instances = program.mappings().saturating_mul(at_once.into());
                Ok(Loaded {
                    mappings: instances.saturating_add(CALLS_MAPPINGS),
                    program,
                    ticker: Arc::clone(&concurrent.ticker),
                })
            }
            // It is of neither, and what the first says of it is what there is to say.
            Err(StartError::Code { .. }) => Err(StartError::Code { message: wrong }),
            Err(error) => Err(error),
        }
    }
}

/// Mappings of the stacks that a container's concurrent calls may have beside those of its
/// instances.
const CALLS_MAPPINGS: u64 = 2 * crate::stack::CALL_STACKS as u64;

fn copy(code: &OwnedFd) -> Result<OwnedFd, StartError> {
    code.try_clone().map_err(|error| StartError::System {
        what: "copy the code's descriptor".to_owned(),
        message: error.to_string(),
    })
}
