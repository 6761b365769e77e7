//! Directives outside blocks that are more than a scalar, and `events {}`.

use std::path::Path;

use crate::conf::directive::{Arity, Cx, Row, block, simple, walk};
use crate::conf::error::Fail;
use crate::conf::level::Level;
use crate::conf::model::{Level as LogLevel, LocationKind, ThreadPool};
use crate::conf::tree::Node;
use crate::phase::Contexts;

/// Modules of nginx and OpenResty whose work is built in.
const BUILT_IN_MODULES: &[&str] = &["ndk_http_module.so", "ngx_http_lua_module.so"];

/// The rows.
pub const ROWS: &[Row] = &[
    block("events", Contexts::MAIN, Arity::Exactly(0), events),
    simple("env", Contexts::MAIN, Arity::Exactly(1), env),
    simple("load_module", Contexts::MAIN, Arity::Exactly(1), load_module),
    simple("thread_pool", Contexts::MAIN, Arity::Between(2, 3), thread_pool),
    simple("use", Contexts::EVENTS, Arity::Exactly(1), use_method),
];

fn events(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    if cx.all.events_seen {
        return Err(Fail::duplicate());
    }
    cx.all.events_seen = true;
    cx.all.modules_closed = true;
    let mut level = Level::new(Contexts::EVENTS, LocationKind::Http);
    Ok(walk(cx.all, &mut level, node.items())?)
}

fn env(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let arg = node.arg(0);
    let entry = match arg.iter().position(|byte| *byte == b'=') {
        Some(at) => (arg[..at].to_vec(), Some(arg[at + 1..].to_vec())),
        None => (arg.to_vec(), None),
    };
    cx.all.env.push(entry);
    Ok(())
}

fn load_module(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    if cx.all.modules_closed {
        return Err(Fail::Directive("is specified too late".to_owned()));
    }
    let path = node.text(0);
    let file = Path::new(&*path).file_name().unwrap_or_default().to_string_lossy();
    if BUILT_IN_MODULES.contains(&&*file) {
        return Ok(());
    }
    Err(Fail::Message(format!("module \"{path}\" cannot be loaded: its work is not built in")))
}

/// Tasks that may wait for a thread unless `max_queue=` says otherwise.
const MAX_QUEUE: usize = 65_536;

/// `thread_pool NAME threads=N [max_queue=N]`.
fn thread_pool(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let name: Box<[u8]> = node.arg(0).into();
    if cx.all.thread_pools.iter().any(|p| p.name == name) {
        return Err(Fail::Message(format!("duplicate thread pool \"{}\"", node.text(0))));
    }
    let (mut threads, mut max_queue) = (0, MAX_QUEUE);
    for (i, arg) in node.args.iter().enumerate().skip(1) {
        let number = |at: usize| std::str::from_utf8(&arg[at..]).ok().and_then(|t| t.parse::<usize>().ok());
        let invalid = |what: &str| Fail::Message(format!("invalid {what} value \"{}\"", node.text(i)));
        if arg.starts_with(b"threads=") {
            threads = number(8).filter(|n| *n > 0).ok_or_else(|| invalid("threads"))?;
        } else if arg.starts_with(b"max_queue=") {
            max_queue = number(10).ok_or_else(|| invalid("max_queue"))?;
        }
    }
    if threads == 0 {
        return Err(Fail::Message("\"thread_pool\" must have \"threads\" parameter".to_owned()));
    }
    cx.all.thread_pools.push(ThreadPool { name, threads, max_queue });
    Ok(())
}

fn use_method(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    match node.arg(0) {
        b"epoll" => Ok(()),
        // Nothing but speed depends on it, so a configuration that asks for an older one still starts.
        b"poll" | b"select" => {
            let text = format!("event type \"{}\" is not built in, \"epoll\" is used", node.text(0));
            cx.warn(LogLevel::Warn, node, &text);
            Ok(())
        }
        _ => Err(Fail::Message(format!("invalid event type \"{}\"", node.text(0)))),
    }
}
