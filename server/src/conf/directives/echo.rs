//! The `echo*` family: commands that a location runs in order to make its content.

use std::sync::Arc;

use crate::conf::directive::{Arity, Cx, Row, simple};
use crate::conf::error::Fail;
use crate::conf::model::Content;
use crate::conf::tree::Node;
use crate::conf::variables::Script;
use crate::phase::Contexts;

const HERE: Contexts = Contexts::LOCATION.or(Contexts::LOCATION_IF);

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EchoKind {
    /// `echo`: its arguments with blanks between, and a newline unless `-n`.
    Echo,
    /// The head goes out before the first subrequest.
    Head,
    /// `echo_request_body`.
    RequestBody,
    /// `echo_sleep SECONDS`.
    Sleep,
    /// `echo_blocking_sleep SECONDS`.
    BlockingSleep,
    /// `echo_flush`.
    Flush,
    /// `echo_reset_timer`.
    ResetTimer,
    /// `echo_location URI [ARGS]`.
    Location,
    /// `echo_location_async`.
    LocationAsync,
    /// `echo_subrequest METHOD URI [-q ARGS] [-b BODY] [-f FILE]`.
    Subrequest,
    /// `echo_subrequest_async`.
    SubrequestAsync,
    /// `echo_duplicate COUNT TEXT`.
    Duplicate,
    /// `echo_read_request_body`.
    ReadRequestBody,
    /// `echo_foreach_split DELIMITER TEXT`.
    Foreach,
    /// `echo_end`.
    End,
    /// `echo_exec URI [ARGS]`.
    Exec,
}

/// One command with its arguments.
#[derive(Clone, Debug)]
pub struct EchoCommand {
    /// What it does.
    pub kind: EchoKind,
    /// Leading arguments without variables that begin with `-`, without that dash.
    pub options: Vec<Box<[u8]>>,
    /// The other arguments.
    pub args: Vec<Script>,
}

/// The commands of a location.
#[derive(Clone, Debug, Default)]
pub struct EchoScript {
    /// In order.
    pub commands: Vec<EchoCommand>,
    /// Whether any command before this point sends the head.
    has_output: bool,
}

/// The rows.
pub const ROWS: &[Row] = &[
    simple("echo", HERE, Arity::AtLeast(0), |cx, node| add(cx, node, EchoKind::Echo)),
    simple("echo_request_body", HERE, Arity::Exactly(0), |cx, node| add(cx, node, EchoKind::RequestBody)),
    simple("echo_sleep", HERE, Arity::Exactly(1), |cx, node| add(cx, node, EchoKind::Sleep)),
    simple("echo_blocking_sleep", HERE, Arity::Exactly(1), |cx, node| add(cx, node, EchoKind::BlockingSleep)),
    simple("echo_flush", HERE, Arity::Exactly(0), |cx, node| add(cx, node, EchoKind::Flush)),
    simple("echo_reset_timer", HERE, Arity::Exactly(0), |cx, node| add(cx, node, EchoKind::ResetTimer)),
    simple("echo_location", HERE, Arity::Between(1, 2), |cx, node| add(cx, node, EchoKind::Location)),
    simple("echo_location_async", HERE, Arity::Between(1, 2), |cx, node| {
        add(cx, node, EchoKind::LocationAsync)
    }),
    simple("echo_subrequest", HERE, Arity::AtLeast(2), |cx, node| add(cx, node, EchoKind::Subrequest)),
    simple("echo_subrequest_async", HERE, Arity::AtLeast(2), |cx, node| {
        add(cx, node, EchoKind::SubrequestAsync)
    }),
    simple("echo_duplicate", HERE, Arity::AtLeast(2), |cx, node| add(cx, node, EchoKind::Duplicate)),
    simple("echo_read_request_body", HERE, Arity::Exactly(0), |cx, node| {
        add(cx, node, EchoKind::ReadRequestBody)
    }),
    simple("echo_foreach_split", HERE, Arity::AtLeast(2), |cx, node| add(cx, node, EchoKind::Foreach)),
    simple("echo_end", HERE, Arity::Exactly(0), |cx, node| add(cx, node, EchoKind::End)),
    simple("echo_exec", HERE, Arity::Between(1, 2), |cx, node| add(cx, node, EchoKind::Exec)),
    simple("echo_before_body", HERE, Arity::AtLeast(0), |cx, node| {
        let command = command(cx, node, EchoKind::Echo)?;
        cx.scope.parts.echo_before.push(command);
        Ok(())
    }),
    simple("echo_after_body", HERE, Arity::AtLeast(0), |cx, node| {
        let command = command(cx, node, EchoKind::Echo)?;
        cx.scope.parts.echo_after.push(command);
        Ok(())
    }),
];

fn command(cx: &mut Cx<'_>, node: &Node, kind: EchoKind) -> Result<EchoCommand, Fail> {
    let mut options: Vec<Box<[u8]>> = Vec::new();
    let mut args = Vec::new();
    let mut expects_options = true;
    for arg in &node.args {
        if expects_options && !arg.contains(&b'$') {
            match &**arg {
                [b'-', b'-', ..] => {
                    expects_options = false;
                    continue;
                }
                [b'-', rest @ ..] if !rest.is_empty() => {
                    options.push(rest.into());
                    continue;
                }
                // An empty argument leaves the question open.
                [] => {}
                _ => expects_options = false,
            }
        } else {
            expects_options = false;
        }
        args.push(cx.script(arg)?);
    }
    Ok(EchoCommand { kind, options, args })
}

fn add(cx: &mut Cx<'_>, node: &Node, kind: EchoKind) -> Result<(), Fail> {
    let command = command(cx, node, kind)?;
    let mut script = match cx.scope.content.take() {
        Some(Content::Echo(script)) => script,
        // The handler named last is the one that runs.
        _ => Arc::default(),
    };
    let commands = Arc::make_mut(&mut script);
    let subrequest = matches!(
        kind,
        EchoKind::Location | EchoKind::LocationAsync | EchoKind::Subrequest | EchoKind::SubrequestAsync
    );
    if subrequest && !commands.has_output {
        commands.commands.push(EchoCommand { kind: EchoKind::Head, options: Vec::new(), args: Vec::new() });
    }
    commands.has_output |= subrequest
        || matches!(kind, EchoKind::Echo | EchoKind::RequestBody | EchoKind::Flush | EchoKind::Duplicate);
    commands.commands.push(command);
    cx.scope.content = Some(Content::Echo(script));
    Ok(())
}
