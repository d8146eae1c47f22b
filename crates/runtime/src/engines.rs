//! The engines of a guest host, and which of them a guest's code is loaded by: what runs for long
//! is instantiated on demand, what lives for a request comes from a pool.
//!
//! It must not know what a guest is given, nor what becomes of it.

use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

use wasmtime::Engine;

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
            programs: Programs::new(engine)?,
            ticker: Arc::new(ticker),
            room: Arc::new(room),
            pool: OnceLock::new(),
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
        let program = self.programs.load(code)?;
        program.check_entry(export)?;
        Ok(Loaded {
            mappings: program.mappings(),
            program,
            ticker: Arc::clone(&self.ticker),
        })
    }

    /// Loads what is instantiated for each request, `at_once` times.
    ///
    /// # Errors
    /// See [`Programs::load`].
    pub(crate) fn server(&self, code: OwnedFd, at_once: u32) -> Result<Loaded, StartError> {
        let pool = self.pool.get_or_init(|| Pool::new(&self.room)).as_ref();
        if let Some(pool) = pool {
            let copy = code.try_clone().map_err(|error| StartError::System {
                what: "copy the code's descriptor".to_owned(),
                message: error.to_string(),
            })?;
            match pool.programs.load(copy) {
                // It is larger than a slot; or it is damaged, which the other engine says as well.
                Err(StartError::Code { message }) => {
                    tracing::warn!(
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
        let program = self.programs.load(code)?;
        Ok(Loaded {
            mappings: program.mappings().saturating_mul(at_once.into()),
            program,
            ticker: Arc::clone(&self.ticker),
        })
    }
}
