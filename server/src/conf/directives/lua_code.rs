//! `*_by_lua*` in all spellings, out of the phase table; `lua_shared_dict`.

use crate::conf::directive::{Arity, Cx, Row, Set, block, simple};
use crate::conf::error::Fail;
use crate::conf::level::Step;
use crate::conf::model::{Content, LuaSource, RewriteOp, SharedDict};
use crate::conf::tree::{Body, Node};
use crate::conf::value;
use crate::conf::variables::{Script, VarKind};
use crate::phase::{self, Contexts, Phase, Spelling};

/// The rows that no phase stands behind.
pub const ROWS: &[Row] = &[simple("lua_shared_dict", Contexts::HTTP, Arity::Exactly(2), shared_dict)];

/// Least size of a shared dictionary.
const SHARED_DICT_BYTES_MIN: u64 = 8191;

/// A row per directive of the phase table, for the phases that run.
pub fn phase_rows() -> impl Iterator<Item = Row> {
    phase::DIRECTIVES.iter().filter(|(_, phase, spelling)| phase.allows(*spelling)).map(
        |(name, phase, spelling)| {
            let info = phase.info();
            let set: Set = if !info.ready {
                refuse
            } else if *phase == Phase::Set {
                set_by_lua
            } else {
                handler
            };
            let arity = match (*phase, *spelling) {
                (Phase::Set, Spelling::Block) => Arity::Exactly(1),
                (Phase::Set, _) => Arity::AtLeast(2),
                (_, Spelling::Block) => Arity::Exactly(0),
                (_, _) => Arity::Exactly(1),
            };
            if *spelling == Spelling::Block {
                block(name, info.contexts, arity, set)
            } else {
                simple(name, info.contexts, arity, set)
            }
        },
    )
}

/// A phase that the table has and the server does not run.
fn refuse(_: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let mut error =
        crate::conf::error::ConfError::at(&node.place, format!("unknown directive \"{}\"", node.name()));
    error.hint =
        Some(format!("the directive \"{}\" is known, but this server does not support it yet", node.name()));
    Err(error.into())
}

fn source(
    cx: &mut Cx<'_>,
    node: &Node,
    spelling: Spelling,
    phase: Phase,
    at: usize,
) -> Result<LuaSource, Fail> {
    Ok(match (spelling, &node.body) {
        (Spelling::Block, Body::Lua(code)) => LuaSource::Inline(code.clone()),
        (Spelling::File, _) => {
            // Code that runs outside requests has no variables to look up.
            let fixed = !phase.info().contexts.meets(Contexts::SERVER.or(Contexts::LOCATION));
            if fixed {
                let path = cx.path(node.arg(at));
                use std::os::unix::ffi::OsStrExt;
                LuaSource::File(Script::literal(path.as_os_str().as_bytes()))
            } else {
                LuaSource::File(cx.path_script(node.arg(at))?)
            }
        }
        _ => LuaSource::Inline(node.arg(at).into()),
    })
}

fn handler(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let (phase, spelling) = Phase::of_directive(&node.name()).expect("the row was made from the phase table");
    let outside_requests = matches!(phase, Phase::Init | Phase::InitWorker | Phase::ExitWorker);
    let taken = if outside_requests {
        cx.all.process_handlers.contains_key(&phase)
    } else {
        cx.scope.lua.get(phase).is_some()
    };
    if taken {
        return Err(Fail::duplicate());
    }
    let source = source(cx, node, spelling, phase, 0)?;
    if let LuaSource::Inline(code) = &source
        && code.is_empty()
        && spelling == Spelling::Quoted
    {
        return Err(Fail::Message(format!(
            "invalid location config: no runnable Lua code in \"{}\"",
            node.name()
        )));
    }
    let code = cx.lua_code(phase, source, node);
    if outside_requests {
        cx.all.process_handlers.insert(phase, code);
        return Ok(());
    }
    if phase == Phase::Content {
        cx.scope.content = Some(Content::Lua(code.clone()));
    }
    cx.scope.lua.0[phase as usize] = Some(code);
    Ok(())
}

fn set_by_lua(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let (phase, spelling) = Phase::of_directive(&node.name()).expect("the row was made from the phase table");
    let var = cx.declare(node.arg(0), VarKind::User)?;
    let source = source(cx, node, spelling, phase, 1)?;
    let mut args = Vec::new();
    for arg in node.args.iter().skip(2) {
        args.push(cx.script(arg)?);
    }
    let code = cx.lua_code(phase, source, node);
    cx.scope.rewrite.push(Step::Op(RewriteOp::SetByLua { var, code, args }));
    Ok(())
}

fn shared_dict(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let name = node.text(0).into_owned();
    if name.is_empty() {
        return Err(Fail::Message("invalid lua shared dict name \"\"".to_owned()));
    }
    let size = value::size(node.arg(1)).filter(|size| *size > SHARED_DICT_BYTES_MIN);
    let size_bytes = size
        .and_then(|size| usize::try_from(size).ok())
        .ok_or_else(|| Fail::Message(format!("invalid lua shared dict size \"{}\"", node.text(1))))?;
    if cx.all.shared_dicts.iter().any(|dict| dict.name == name) {
        return Err(Fail::Message(format!("lua_shared_dict \"{name}\" is already defined as \"{name}\"")));
    }
    cx.all.shared_dicts.push(SharedDict { name, size_bytes });
    Ok(())
}
