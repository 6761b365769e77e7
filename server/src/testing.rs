//! What tests of several modules need.

/// Runs a future to its end, on a runtime like a worker's: one thread, and tasks that stay on it.
pub fn run<R>(f: impl Future<Output = R>) -> R {
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&rt, f)
}
