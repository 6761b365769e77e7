//! Reads files and splices `include` in: masks, relative paths, the texts read (for `-T`).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{ConfError, os_text};
use super::tree::{self, Body, Item, Node};

/// How deep files may include each other.
const INCLUDE_DEPTH_MAX: usize = 64;

/// Reads files relative to one folder.
#[derive(Debug)]
pub struct Reader {
    folder: PathBuf,
    /// Every file read, with its text.
    pub sources: Vec<(PathBuf, Arc<[u8]>)>,
}

impl Reader {
    /// A reader for a configuration whose main file is in `folder`.
    pub fn new(folder: PathBuf) -> Reader {
        Reader { folder, sources: Vec::new() }
    }

    /// The items of the main file, includes spliced in.
    pub fn read_main(&mut self, file: &Path) -> Result<Vec<Item>, ConfError> {
        self.read(file, 0).map_err(ConfError::whole)
    }

    /// The items of a text given on the command line.
    pub fn read_text(&mut self, text: &[u8], name: &str) -> Vec<Item> {
        let items = tree::parse(text, &Arc::from(Path::new(name)));
        self.splice(items, 0)
    }

    fn read(&mut self, file: &Path, depth: usize) -> Result<Vec<Item>, String> {
        let text = std::fs::read(file)
            .map_err(|error| format!("open() \"{}\" failed {}", file.display(), os_text(&error)))?;
        let text: Arc<[u8]> = text.into();
        if !self.sources.iter().any(|(known, _)| known == file) {
            self.sources.push((file.to_owned(), text.clone()));
        }
        let items = tree::parse(&text, &Arc::from(file));
        Ok(self.splice(items, depth))
    }

    fn splice(&mut self, items: Vec<Item>, depth: usize) -> Vec<Item> {
        let mut spliced = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Item::Node(node) if &*node.word == b"include" => {
                    self.include(&node, depth, &mut spliced);
                }
                Item::Node(Node { word, args, place, body: Body::Block(inner) }) => {
                    let body = Body::Block(self.splice(inner, depth));
                    spliced.push(Item::Node(Node { word, args, place, body }));
                }
                other => spliced.push(other),
            }
        }
        spliced
    }

    fn include(&mut self, node: &Node, depth: usize, out: &mut Vec<Item>) {
        let mut fail = |message: String| out.push(Item::Error(ConfError::at(&node.place, message)));
        if !matches!(node.body, Body::None) {
            return fail("directive \"include\" is not terminated by \";\"".to_owned());
        }
        let [mask] = node.args.as_slice() else {
            return fail("invalid number of arguments in \"include\" directive".to_owned());
        };
        if depth >= INCLUDE_DEPTH_MAX {
            return fail(format!("files include each other more than {INCLUDE_DEPTH_MAX} deep"));
        }
        let path = self.folder.join(OsStr::from_bytes(mask));
        let files = if mask.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[')) {
            expand(&path)
        } else {
            vec![path]
        };
        for file in files {
            match self.read(&file, depth + 1) {
                Ok(items) => out.extend(items),
                Err(message) => {
                    out.push(Item::Error(ConfError::at(&node.place, message)));
                    return;
                }
            }
        }
    }
}

/// The files that a mask names, sorted; none when nothing matches.
pub fn expand(mask: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("/")];
    for part in mask.components() {
        let part = part.as_os_str().as_bytes();
        if part == b"/" {
            continue;
        }
        let is_mask = part.iter().any(|byte| matches!(byte, b'*' | b'?' | b'['));
        let mut next = Vec::new();
        for folder in found {
            if !is_mask {
                let path = folder.join(OsStr::from_bytes(part));
                if path.symlink_metadata().is_ok() {
                    next.push(path);
                }
                continue;
            }
            let Ok(entries) = std::fs::read_dir(&folder) else { continue };
            let mut names: Vec<OsString> = entries
                .filter_map(|entry| Some(entry.ok()?.file_name()))
                .filter(|name| {
                    let name = name.as_bytes();
                    (name[0] != b'.' || part[0] == b'.') && matches_mask(part, name)
                })
                .collect();
            names.sort();
            next.extend(names.into_iter().map(|name| folder.join(OsString::from_vec(name.into_vec()))));
        }
        found = next;
    }
    found
}

/// Whether a name matches a mask of `*`, `?` and `[...]`.
fn matches_mask(mask: &[u8], name: &[u8]) -> bool {
    let Some((first, rest)) = mask.split_first() else { return name.is_empty() };
    match first {
        b'*' => (0..=name.len()).any(|skipped| matches_mask(rest, &name[skipped..])),
        b'?' => !name.is_empty() && matches_mask(rest, &name[1..]),
        b'[' => {
            let Some(end) = rest.iter().skip(1).position(|byte| *byte == b']').map(|at| at + 1) else {
                return name.first() == Some(&b'[') && matches_mask(rest, &name[1..]);
            };
            let Some((byte, name)) = name.split_first() else { return false };
            let (set, negate) = match rest[..end].split_first() {
                Some((b'!' | b'^', set)) => (set, true),
                _ => (&rest[..end], false),
            };
            in_set(set, *byte) != negate && matches_mask(&rest[end + 1..], name)
        }
        b'\\' if !rest.is_empty() => name.first() == Some(&rest[0]) && matches_mask(&rest[1..], &name[1..]),
        byte => name.first() == Some(byte) && matches_mask(rest, &name[1..]),
    }
}

fn in_set(set: &[u8], byte: u8) -> bool {
    let mut at = 0;
    while at < set.len() {
        if at + 2 < set.len() && set[at + 1] == b'-' {
            if (set[at]..=set[at + 2]).contains(&byte) {
                return true;
            }
            at += 3;
        } else {
            if set[at] == byte {
                return true;
            }
            at += 1;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks() {
        for (mask, name, expected) in [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.config", false),
            ("a?c", "abc", true),
            ("[a-c]*", "bx", true),
            ("[!a-c]*", "bx", false),
            ("*", "", true),
            ("[]a]", "]", true),
        ] {
            assert_eq!(matches_mask(mask.as_bytes(), name.as_bytes()), expected, "{mask} {name}");
        }
    }
}
