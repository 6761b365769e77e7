//! THE call into machine code, and the thunks between the platform's calling convention and the traces'.
//!
//! Traces use Cranelift's `tail` convention, `(vm, base, code) -> exit`, so that one can jump to another.
//! A thunk per root trace loads the trace's address and jumps to one shared stub that calls it:
//!
//! ```text
//!   interpreter --extern "C" (vm, base)--> thunk: rdx = trace --> stub --tail--> trace --> exit code
//! ```

/// Entry of a trace as the interpreter calls it: `(vm, base)`, answers `trace number << 32 | exit number`.
pub type EntryFn = extern "C" fn(*mut u8, *mut u64) -> u64;

/// Bytes of a thunk that calls the trace at `target` through the stub at `stub`.
pub fn thunk(target: usize, stub: usize) -> Vec<u8> {
    // mov rdx, target; mov rax, stub; jmp rax
    let mut c = vec![0x48, 0xba];
    c.extend_from_slice(&(target as u64).to_le_bytes());
    c.extend_from_slice(&[0x48, 0xb8]);
    c.extend_from_slice(&(stub as u64).to_le_bytes());
    c.extend_from_slice(&[0xff, 0xe0]);
    c
}

/// Does this build know the machine it runs on?
pub const fn supported() -> bool {
    cfg!(all(target_arch = "x86_64", target_os = "linux"))
}

/// Enters machine code.
///
/// # Safety
/// `entry` is the address of a thunk published in a live arena; `vm` and `base` are what its trace was
/// compiled for: a VM, and the base of a frame of its current coroutine with room for the trace's slots.
pub unsafe fn enter(entry: usize, vm: *mut u8, base: *mut u64) -> u64 {
    // SAFETY: the caller promises that a thunk of this type is at `entry`.
    let f: EntryFn = unsafe { std::mem::transmute::<usize, EntryFn>(entry) };
    f(vm, base)
}
