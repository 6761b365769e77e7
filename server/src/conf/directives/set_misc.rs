//! The `set_*` family: steps of the rewrite script that assign a variable what a function makes.

use crate::conf::directive::{Arity, Cx, Row, simple};
use crate::conf::error::Fail;
use crate::conf::level::Step;
use crate::conf::model::RewriteOp;
use crate::conf::tree::Node;
use crate::conf::value;
use crate::conf::variables::{Script, VarKind};
use crate::phase::Contexts;

const REWRITE: Contexts =
    Contexts::SERVER.or(Contexts::SERVER_IF).or(Contexts::LOCATION).or(Contexts::LOCATION_IF);
const LEVELS: Contexts = REWRITE.or(Contexts::HTTP);

/// What a step makes out of its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetFn {
    /// `set_if_empty $v X`: X where the variable is empty.
    IfEmpty,
    /// `set_escape_uri`.
    EscapeUri,
    /// `set_unescape_uri`.
    UnescapeUri,
    /// `set_quote_sql_str`.
    QuoteSql,
    /// `set_quote_pgsql_str`.
    QuotePgsql,
    /// `set_quote_json_str`.
    QuoteJson,
    /// `set_encode_base64`.
    EncodeBase64,
    /// `set_decode_base64`.
    DecodeBase64,
    /// `set_encode_base64url`.
    EncodeBase64Url,
    /// `set_decode_base64url`.
    DecodeBase64Url,
    /// `set_encode_base32`.
    EncodeBase32,
    /// `set_decode_base32`.
    DecodeBase32,
    /// `set_encode_hex`.
    EncodeHex,
    /// `set_decode_hex`.
    DecodeHex,
    /// `set_md5`.
    Md5,
    /// `set_sha1`.
    Sha1,
    /// `set_hmac_sha1 $v SECRET TEXT`.
    HmacSha1,
    /// `set_hmac_sha256 $v SECRET TEXT`.
    HmacSha256,
    /// `set_random $v FROM TO`.
    Random,
    /// `set_secure_random_alphanum $v LENGTH`.
    RandomAlphanum,
    /// `set_secure_random_lcalpha $v LENGTH`.
    RandomLcalpha,
    /// `set_rotate $v FROM TO`.
    Rotate,
    /// `set_local_today $v`.
    LocalToday,
    /// `set_formatted_gmt_time $v FORMAT`.
    GmtTime,
    /// `set_formatted_local_time $v FORMAT`.
    LocalTime,
}

/// The step's extras that are known when the configuration is read.
#[derive(Clone, Debug)]
pub struct SetStep {
    /// The function.
    pub function: SetFn,
    /// The arguments; the variable itself where none is given.
    pub args: Vec<Script>,
    /// What a rotation has come to; its own per step.
    pub current: std::sync::Arc<std::sync::atomic::AtomicI64>,
}

macro_rules! rows {
    ($($name:literal $function:ident $from:literal $to:literal;)*) => {
        /// The rows.
        pub const ROWS: &[Row] = &[
            $( simple($name, REWRITE, Arity::Between($from, $to), |cx, node| add(cx, node, SetFn::$function)), )*
            simple("set_misc_base32_padding", LEVELS, Arity::Exactly(1), old_padding),
        ];

        /// The functions by directive, with the least and the largest number of arguments, the variable included.
        pub const FUNCTIONS: &[(&str, SetFn, usize, usize)] = &[ $( ($name, SetFn::$function, $from, $to), )* ];
    };
}

rows! {
    "set_if_empty" IfEmpty 2 2;
    "set_escape_uri" EscapeUri 1 2;
    "set_unescape_uri" UnescapeUri 1 2;
    "set_quote_sql_str" QuoteSql 1 2;
    "set_quote_pgsql_str" QuotePgsql 1 2;
    "set_quote_json_str" QuoteJson 1 2;
    "set_encode_base64" EncodeBase64 1 2;
    "set_decode_base64" DecodeBase64 1 2;
    "set_encode_base64url" EncodeBase64Url 1 2;
    "set_decode_base64url" DecodeBase64Url 1 2;
    "set_encode_base32" EncodeBase32 1 2;
    "set_decode_base32" DecodeBase32 1 2;
    "set_encode_hex" EncodeHex 1 2;
    "set_decode_hex" DecodeHex 1 2;
    "set_md5" Md5 1 2;
    "set_sha1" Sha1 1 2;
    "set_hmac_sha1" HmacSha1 3 3;
    "set_hmac_sha256" HmacSha256 3 3;
    "set_random" Random 3 3;
    "set_secure_random_alphanum" RandomAlphanum 1 2;
    "set_secure_random_lcalpha" RandomLcalpha 1 2;
    "set_rotate" Rotate 3 3;
    "set_local_today" LocalToday 1 1;
    "set_formatted_gmt_time" GmtTime 2 2;
    "set_formatted_local_time" LocalTime 2 2;
}

fn add(cx: &mut Cx<'_>, node: &Node, function: SetFn) -> Result<(), Fail> {
    let var = cx.declare(node.arg(0), VarKind::User)?;
    let mut args = Vec::new();
    if matches!(function, SetFn::IfEmpty | SetFn::Rotate) || node.args.len() == 1 {
        args.push(cx.script(node.arg(0))?);
    }
    for arg in &node.args[1..] {
        args.push(cx.script(arg)?);
    }
    let current = std::sync::Arc::new(std::sync::atomic::AtomicI64::new(i64::MIN));
    let step = Box::new(SetStep { function, args, current });
    cx.scope.rewrite.push(Step::Op(RewriteOp::SetMisc { var, step }));
    Ok(())
}

/// The alphabet of base 32 that is used when none is given.
pub const BASE32: &[u8] = b"0123456789abcdefghijklmnopqrstuv";

/// `set_base32_padding` under its old name.
fn old_padding(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    if cx.scope.filters.set_base32_padding.is_some() {
        return Err(Fail::duplicate());
    }
    cx.scope.filters.set_base32_padding = Some(value::flag_arg(cx, node)?);
    Ok(())
}
