//! The C heap of this process.
#![allow(unsafe_code)]

/// Gives unused pages of the C heap back to the system; true when there were some. False where the C library
/// cannot.
pub fn trim_heap() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: takes a plain number and is safe to call from any thread at any time.
        unsafe { libc::malloc_trim(1) == 1 }
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    {
        false
    }
}
