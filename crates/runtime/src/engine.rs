//! The configuration of the engine. The compile child makes its code with it and Cranelift, the
//! guest host runs that code with it and no compiler; other engines may differ in how they
//! allocate instances, and in nothing else, or the code would not load. But for [`Calls`]: what
//! preview3 needs is in engines of its own, whose code no other loads (docs/adr/0024).
//!
//! **Stacks.** A guest gets 8 MiB of stack for Wasm, as Go's own runner asks for, and 1 MiB beyond
//! it for the host's functions: a Go program then nests 558,000 calls of a small function, and about
//! 35,000 at the engine's default of 512 KiB (a Rust program ends at 64,000 in either case, by the
//! 1 MiB stack that it keeps in its linear memory). It costs nothing: a stack is two mappings
//! whatever its size, only touched pages are memory (an idle guest has 8 KiB of them), and only
//! those are charged to the container.
//!
//! **Backtraces** are symbolised by a module's name section, not by its DWARF. The engine symbolises
//! whenever a stack is unwound, for an exit and a stop as well as for a trap, and reads a module's
//! DWARF anew for each frame, on the thread that guests share: 14 to 30 ms for a Rust program of
//! 2 MB (measured), and as long as it likes for a hostile one.
//!
//! This module knows nothing of guests, their limits or their world.

use std::sync::Arc;

use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig,
    WasmBacktraceDetails,
};

use crate::stack::Stacks;

/// Stack for Wasm frames, bytes.
const WASM_STACK: usize = 8 << 20;

/// Stack for the frames of host functions, bytes.
const HOST_STACK: usize = 1 << 20;

/// Which calls of components an engine knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Calls {
    /// One after the other: preview1 and preview2.
    Sequential,
    /// Also concurrent ones, with streams and futures: preview3. It costs every store.
    Concurrent,
}

/// What all engines of one kind share.
fn config(calls: Calls) -> Config {
    let concurrent = calls == Calls::Concurrent;
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(WASM_STACK + HOST_STACK)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        // Backtraces walk frame pointers; unwind tables serve native debuggers alone.
        .native_unwind_info(false)
        .generate_address_map(true)
        // Atomics may be used; a shared memory may not: its growth passes no limiter.
        .wasm_threads(true)
        .shared_memory(false)
        .concurrency_support(concurrent)
        .wasm_component_model_async(concurrent);
    config
}

/// The engine of the compile child.
///
/// # Errors
/// This machine can't be compiled for.
pub(crate) fn compiler(calls: Calls) -> wasmtime::Result<Engine> {
    let mut config = config(calls);
    config.cranelift_opt_level(OptLevel::Speed);
    Engine::new(&config)
}

/// The engine of the guest host: it can't compile.
///
/// # Errors
/// This machine can't run the code.
pub(crate) fn guests(calls: Calls) -> wasmtime::Result<Engine> {
    let mut config = config(calls);
    config
        .enable_compiler(false)
        .with_host_stack(Arc::new(Stacks));
    Engine::new(&config)
}

/// How much of a memory, of a table and of a stack a slot of the pool keeps from one instance to the
/// next, bytes: what is written there is put back by a copy, which costs less than to give the
/// pages to the kernel and to fault them in again.
const KEPT_MEMORY: usize = 128 << 10;
const KEPT_TABLE: usize = 64 << 10;
const KEPT_STACK: usize = 16 << 10;

/// Elements of a table, and bytes of what describes an instance: those of CPython, Ruby and Go are
/// the largest that are known, and have some room.
const TABLE_ELEMENTS: usize = 100_000;
const INSTANCE: usize = 10 << 20;

/// Core modules and tables of a component, for each slot: an adapter and its shims come with the
/// program itself.
const MODULES: u32 = 16;
const TABLES: u32 = 2;

/// The engine for instances that live as long as a request: so many at once, in slots that are
/// made beforehand. It can't compile either.
///
/// # Errors
/// There is no address space for so many.
pub(crate) fn pooled(slots: u32) -> wasmtime::Result<Engine> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots.saturating_mul(MODULES))
        .total_memories(slots)
        .total_tables(slots.saturating_mul(TABLES))
        .total_stacks(slots)
        .total_gc_heaps(slots)
        .max_component_instance_size(INSTANCE)
        .max_core_instance_size(INSTANCE)
        .max_memories_per_module(4)
        .max_tables_per_module(4)
        .table_elements(TABLE_ELEMENTS)
        .linear_memory_keep_resident(KEPT_MEMORY)
        .table_keep_resident(KEPT_TABLE)
        .async_stack_keep_resident(KEPT_STACK)
        .pagemap_scan(Enabled::Auto);
    let mut config = config(Calls::Sequential);
    config
        .enable_compiler(false)
        // A deep stack is given back: nobody is charged for one that is not in use.
        .async_stack_zeroing(true)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}
