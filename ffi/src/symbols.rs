//! Where C symbols can come from besides shared libraries.

/// Offers C symbols that no shared library exports, such as those of the server itself.
///
/// Asked after the program and its libraries, in the order of registration.
pub trait SymbolSource {
    /// Address of the function or variable `name`, if this source has it.
    fn address(&self, name: &[u8]) -> Option<usize>;
}
