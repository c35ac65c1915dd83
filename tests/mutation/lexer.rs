//! WGSL as tokens, as far as the operators need it: comments, attributes and types are out of the way.

use std::ops::Range;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A name, a keyword, or a type with its template arguments (`array<vec4<f32>, 2u * N>` is one token).
    Word,
    /// A literal.
    Number,
    /// An operator or a bracket.
    Punctuation,
}

/// One token of a file.
#[derive(Clone, Debug)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind,
    pub(crate) text: &'a str,
    /// Where it stands, in bytes.
    pub(crate) span: Range<usize>,
}

/// Longest first, so that the first that fits is the right one.
const OPERATORS: [&str; 21] = [
    "<<=", ">>=", "&&", "||", "<=", ">=", "==", "!=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<", ">>", "++", "--", "->",
];

/// Names that take template arguments when `<` follows at once.
const TEMPLATES: [&str; 7] = ["array", "vec2", "vec3", "vec4", "var", "bitcast", "ptr"];

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The tokens of a file.
pub(crate) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        let (kind, length) = if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        } else if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
            continue;
        } else if c == '@' {
            at += attribute(rest);
            continue;
        } else if c.is_ascii_digit() {
            (Kind::Number, number(rest))
        } else if is_word(c) {
            (Kind::Word, word(rest))
        } else {
            let operator = OPERATORS.iter().find(|operator| rest.starts_with(**operator));
            (Kind::Punctuation, operator.map_or(c.len_utf8(), |operator| operator.len()))
        };
        tokens.push(Token {
            kind,
            text: &rest[..length],
            span: at..at + length,
        });
        at += length;
    }
    tokens
}

/// Length of `@name` or `@name(arguments)`.
fn attribute(rest: &str) -> usize {
    let name = 1 + rest[1..].find(|c| !is_word(c)).unwrap_or(rest.len() - 1);
    if rest[name..].starts_with('(') {
        name + rest[name..].find(')').map_or(0, |end| end + 1)
    } else {
        name
    }
}

/// Length of a literal, exponents with a sign included.
fn number(rest: &str) -> usize {
    let hexadecimal = rest.starts_with("0x");
    let mut before = ' ';
    let inside = |c: char| {
        let sign = (c == '-' || c == '+') && before == 'e' && !hexadecimal;
        before = c;
        is_word(c) || c == '.' || sign
    };
    let mut inside = inside;
    rest.find(|c| !inside(c)).unwrap_or(rest.len())
}

/// Length of a name, with its template arguments if it is a type.
fn word(rest: &str) -> usize {
    let name = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
    if !TEMPLATES.contains(&&rest[..name]) || !rest[name..].starts_with('<') {
        return name;
    }
    let mut depth = 0usize;
    for (i, c) in rest[name..].char_indices() {
        depth = match c {
            '<' => depth + 1,
            '>' => depth - 1,
            _ => depth,
        };
        if depth == 0 {
            return name + i + 1;
        }
    }
    name
}

/// The partner of the bracket at `at`, looking forwards from an opening and backwards from a closing one.
pub(crate) fn partner(tokens: &[Token<'_>], at: usize) -> usize {
    let pairs = [("(", ")"), ("[", "]"), ("{", "}")];
    let is = |i: usize, text: &str| tokens[i].text == text;
    let mut depth = 0usize;
    let mut step = |i: usize, inner: &str, outer: &str| {
        depth = if is(i, inner) {
            depth + 1
        } else {
            depth - usize::from(is(i, outer))
        };
        depth == 0
    };
    for (open, close) in pairs {
        if is(at, open) {
            return (at..tokens.len()).find(|&i| step(i, open, close)).expect("brackets are balanced");
        }
        if is(at, close) {
            return (0..=at).rev().find(|&i| step(i, close, open)).expect("brackets are balanced");
        }
    }
    panic!("{:?} is no bracket", tokens[at]);
}

/// Names before a bracket that do not call or index.
const KEYWORDS: [&str; 6] = ["if", "for", "while", "switch", "return", "else"];

/// The operand that ends just before token `at`, as a range of tokens.
pub(crate) fn operand_before(tokens: &[Token<'_>], at: usize) -> Range<usize> {
    let mut first = at - 1;
    loop {
        if [")", "]"].contains(&tokens[first].text) {
            first = partner(tokens, first);
            let callee = &tokens[first - 1];
            let called = callee.kind == Kind::Word && !KEYWORDS.contains(&callee.text);
            if !called && ![")", "]"].contains(&callee.text) {
                return first..at;
            }
            first -= 1;
        } else if first > 0 && tokens[first - 1].text == "." {
            first -= 2;
        } else {
            return first..at;
        }
    }
}

/// The operand that begins just after token `at`, as a range of tokens.
pub(crate) fn operand_after(tokens: &[Token<'_>], at: usize) -> Range<usize> {
    let first = at + 1;
    let mut end = first;
    while ["-", "!", "~"].contains(&tokens[end].text) {
        end += 1;
    }
    end = if tokens[end].text == "(" {
        partner(tokens, end) + 1
    } else {
        end + 1
    };
    loop {
        match tokens.get(end).map(|token| token.text) {
            Some(".") => end += 2,
            Some("(" | "[") => end = partner(tokens, end) + 1,
            _ => return first..end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<&str> {
        tokens(text).into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_and_attributes_are_no_tokens_and_types_are_one() {
        let text = "@group(0) @binding(1) var<storage, read> x: array<vec4<f32>, 2u * N>; // a < b\nif a << 2u >= 1.5e-3 {";
        assert_eq!(
            texts(text),
            [
                "var<storage, read>",
                "x",
                ":",
                "array<vec4<f32>, 2u * N>",
                ";",
                "if",
                "a",
                "<<",
                "2u",
                ">=",
                "1.5e-3",
                "{"
            ]
        );
    }

    #[test]
    fn operands_take_calls_indices_and_members_along() {
        let text = "y = f(a, b)[2].x * -(c + d).y;";
        let tokens = tokens(text);
        let times = tokens.iter().position(|token| token.text == "*").expect("there is one");
        let of = |range: Range<usize>| &text[tokens[range.start].span.start..tokens[range.end - 1].span.end];
        assert_eq!(of(operand_before(&tokens, times)), "f(a, b)[2].x");
        assert_eq!(of(operand_after(&tokens, times)), "-(c + d).y");
    }
}
