//! The directive tree of one text: words and blocks with file and line, no meaning.
//!
//! A syntax error becomes a node at its place, so that whoever walks the tree meets the errors
//! in the order of the text, as nginx does. Included files are spliced in by `include`.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use super::error::{ConfError, Place};
use super::lexer::{End, Lexer};

/// A directive with its arguments.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name.
    pub word: Box<[u8]>,
    /// Its arguments.
    pub args: Vec<Box<[u8]>>,
    /// Where it ends: the line of its `;` or `{`.
    pub place: Place,
    /// What follows the arguments.
    pub body: Body,
}

/// What follows a directive's arguments.
#[derive(Clone, Debug)]
pub enum Body {
    /// `;`
    None,
    /// `{ ... }`
    Block(Vec<Item>),
    /// `{ ... }` of Lua code.
    Lua(Box<[u8]>),
}

/// A directive, or an error in its place.
#[derive(Clone, Debug)]
pub enum Item {
    /// A directive.
    Node(Node),
    /// Nothing can be read from here on.
    Error(ConfError),
}

impl Node {
    /// The name, for messages and look-ups.
    pub fn name(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.word)
    }

    /// Argument `n`, from 0. The arity was checked by whoever calls.
    pub fn arg(&self, n: usize) -> &[u8] {
        &self.args[n]
    }

    /// Argument `n` as text.
    pub fn text(&self, n: usize) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.args[n])
    }

    /// The block's items; none when there is no block.
    pub fn items(&self) -> &[Item] {
        match &self.body {
            Body::Block(items) => items,
            Body::None | Body::Lua(_) => &[],
        }
    }
}

/// The items of a file, or of the `-g` option.
pub fn parse(text: &[u8], file: &Arc<Path>) -> Vec<Item> {
    let mut lexer = Lexer::new(text);
    let (items, _) = block(&mut lexer, file, false);
    items
}

/// Items up to the `}` (nested) or the end of the text. False when reading cannot go on.
fn block(lexer: &mut Lexer<'_>, file: &Arc<Path>, nested: bool) -> (Vec<Item>, bool) {
    let mut items = Vec::new();
    let fail = |items: &mut Vec<Item>, line: u32, message: String| {
        items.push(Item::Error(ConfError::at(&Place { file: file.clone(), line }, message)));
    };
    loop {
        let read = match lexer.words() {
            Ok(read) => read,
            Err(message) => {
                fail(&mut items, lexer.line(), message);
                return (items, false);
            }
        };
        let place = Place { file: file.clone(), line: lexer.line() };
        let has_block = match read.end {
            End::BlockEnd if nested => return (items, true),
            End::BlockEnd => {
                fail(&mut items, place.line, "unexpected \"}\"".to_owned());
                return (items, false);
            }
            End::File if nested => {
                fail(&mut items, place.line, "unexpected end of file, expecting \"}\"".to_owned());
                return (items, false);
            }
            End::File => return (items, true),
            End::Semicolon => false,
            End::BlockStart => true,
        };
        let mut words = read.words.into_iter();
        let word = words.next().expect("the lexer returns `;` and `{` with at least one word");
        let args: Vec<_> = words.collect();
        if !has_block {
            items.push(Item::Node(Node { word, args, place, body: Body::None }));
            continue;
        }
        if word.ends_with(b"_by_lua_block") {
            match lexer.lua_block() {
                Ok(code) => items.push(Item::Node(Node { word, args, place, body: Body::Lua(code) })),
                Err((line, message)) => {
                    let error = ConfError::at(&Place { file: file.clone(), line }, message);
                    let body = Body::Block(vec![Item::Error(error)]);
                    items.push(Item::Node(Node { word, args, place, body }));
                    return (items, false);
                }
            }
            continue;
        }
        let (inner, more) = block(lexer, file, true);
        items.push(Item::Node(Node { word, args, place, body: Body::Block(inner) }));
        if !more {
            return (items, false);
        }
    }
}
