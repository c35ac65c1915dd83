//! Mutants by rule: each barrier dropped, each comparison flipped, each stride or bound off by one.
//!
//! The rules work on text and propose more than WGSL's types allow (a float plus `1u`); what no variant accepts is weeded out
//! afterwards ([`Mutant::is_valid`]).

use std::{collections::HashSet, ops::Range};

use crate::{
    lexer::{Kind, Token, operand_after, operand_before, partner, tokens},
    mutant::{Fault, File, Mutant},
};

/// Every proposal for a file, in the order of places; no two give the same text.
pub(crate) fn propose(index: usize, file: &File) -> Vec<Mutant> {
    let mut proposals = Proposals {
        index,
        text: &file.text,
        tokens: tokens(&file.text),
        found: Vec::new(),
        seen: HashSet::new(),
    };
    let places = proposals.outside_constants();
    for &at in &places {
        proposals.at(at);
    }
    for &at in &places {
        proposals.leftovers(at);
    }
    proposals.found.sort_by_key(|mutant| mutant.at); // stable
    proposals.found
}

/// The opposite of a comparison, and the same with its bound on the other side.
fn opposite(operator: &str) -> Option<(&'static str, Option<&'static str>)> {
    Some(match operator {
        "<" => (">=", Some("<=")),
        "<=" => (">", Some("<")),
        ">" => ("<=", Some(">=")),
        ">=" => ("<", Some(">")),
        "==" => ("!=", None),
        "!=" => ("==", None),
        _ => return None,
    })
}

/// `7u` as 7.
fn literal(text: &str) -> Option<u32> {
    text.strip_suffix('u').and_then(|digits| digits.parse().ok())
}

struct Proposals<'a> {
    index: usize,
    text: &'a str,
    tokens: Vec<Token<'a>>,
    found: Vec<Mutant>,
    /// Places and replacements so far.
    seen: HashSet<(usize, usize, String)>,
}

impl<'a> Proposals<'a> {
    fn span(&self, range: &Range<usize>) -> Range<usize> {
        self.tokens[range.start].span.start..self.tokens[range.end - 1].span.end
    }

    fn source(&self, range: &Range<usize>) -> &'a str {
        &self.text[self.span(range)]
    }

    fn is(&self, at: usize, text: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| token.text == text)
    }

    fn is_word(&self, at: usize) -> bool {
        self.tokens.get(at).is_some_and(|token| token.kind == Kind::Word)
    }

    fn replace(&mut self, fault: Fault, range: &Range<usize>, replacement: impl Into<String>) {
        let (span, replacement) = (self.span(range), replacement.into());
        if self.seen.insert((span.start, span.end, replacement.clone())) {
            self.found.push(Mutant {
                file: self.index,
                fault,
                at: span.start,
                original: self.text[span].to_owned(),
                replacement,
            });
        }
    }

    /// Whether a literal is added to it or taken from it: changing that literal says the same.
    fn is_beside_literal(&self, range: &Range<usize>) -> bool {
        let is_sign = |at: usize| self.is(at, "+") || self.is(at, "-");
        let is_factor = |at: usize| ["*", "/", "%"].into_iter().any(|operator| self.is(at, operator));
        let is_literal = |at: usize| self.tokens.get(at).is_some_and(|token| literal(token.text).is_some());
        let start = range.start;
        let before = start > 2 && is_sign(start - 1) && is_literal(start - 2) && !is_factor(start - 3);
        before || is_sign(range.end) && is_literal(range.end + 1) && !is_factor(range.end + 2)
    }

    /// One more.
    fn more(&mut self, fault: Fault, range: &Range<usize>) {
        let text = self.source(range);
        // hexadecimal: a mask or a mark, no size
        if text.starts_with("0x") || fault != Fault::Stride && self.is_beside_literal(range) {
            return;
        }
        let replacement = match literal(text) {
            Some(n) => format!("{}u", n + 1),
            None => format!("({text} + 1u)"),
        };
        self.replace(fault, range, replacement);
    }

    /// One less.
    fn less(&mut self, fault: Fault, range: &Range<usize>) {
        let text = self.source(range);
        if text.starts_with("0x") || fault != Fault::Stride && self.is_beside_literal(range) {
            return;
        }
        match literal(text) {
            Some(0) => {}
            Some(n) => self.replace(fault, range, format!("{}u", n - 1)),
            None => self.replace(fault, range, format!("({text} - 1u)")),
        }
    }

    /// Every token but those of constants' values: a constant is changed as a whole.
    fn outside_constants(&self) -> Vec<usize> {
        let mut places = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            places.push(at);
            at = if self.is(at, "const") { self.find(at, ";") } else { at + 1 };
        }
        places
    }

    /// What the token at `at` gives rise to.
    fn at(&mut self, at: usize) {
        let token = self.tokens[at].clone();
        match token.text {
            "workgroupBarrier" => self.replace(Fault::Barrier, &(at..at + 4), ""),
            "<" | "<=" | ">" | ">=" | "==" | "!=" => self.comparison(at, token.text),
            "&&" | "||" => self.condition(at, token.text),
            "if" if self.is_word(at + 1) && self.is(at + 2, "{") => self.not(at + 1),
            "return" if self.is_word(at + 1) && self.is(at + 2, ";") => self.not(at + 1),
            "*" | "/" | "%" => {
                // `(i + 1) % n` takes the same turns in another order
                if token.text != "%" {
                    self.more(Fault::Stride, &operand_before(&self.tokens, at));
                }
                self.more(Fault::Stride, &operand_after(&self.tokens, at));
            }
            "+" | "-" => {
                let operand = operand_after(&self.tokens, at);
                if !self.is(operand.end, "%") {
                    self.more(Fault::Offset, &operand);
                }
            }
            "const" => self.constant(at),
            "for" => self.loop_header(at),
            "[" => self.index(at),
            "(" if at > 0 && self.is_word(at - 1) => self.call(at),
            _ => {}
        }
    }

    fn comparison(&mut self, at: usize, operator: &str) {
        let Some((negated, boundary)) = opposite(operator) else { return };
        self.replace(Fault::Negated, &(at..at + 1), negated);
        let right = operand_after(&self.tokens, at);
        if let Some(boundary) = boundary {
            self.replace(Fault::Boundary, &(at..at + 1), boundary);
            // `i < n + 1` is `i <= n`, so only the other direction says something new
            if matches!(operator, "<" | ">=") {
                self.less(Fault::Bound, &right);
            } else {
                self.more(Fault::Bound, &right);
            }
        }
    }

    fn condition(&mut self, at: usize, operator: &str) {
        self.replace(Fault::Boundary, &(at..at + 1), if operator == "&&" { "||" } else { "&&" });
        for operand in [operand_before(&self.tokens, at), operand_after(&self.tokens, at)] {
            let beside = |i: Option<usize>| i.and_then(|i| self.tokens.get(i)).map_or("", |token| token.text);
            let neighbours = [beside(operand.start.checked_sub(1)), beside(Some(operand.end))];
            // an operand of `==` is no condition of its own
            if neighbours.iter().all(|text| opposite(text).is_none()) && self.source(&operand) != "NONE" {
                self.replace(Fault::Negated, &operand, format!("!{}", self.source(&operand)));
            }
        }
    }

    /// `cond` becomes `!cond`.
    fn not(&mut self, at: usize) {
        self.replace(Fault::Negated, &(at..at + 1), format!("!{}", self.tokens[at].text));
    }

    /// `const NAME: u32 = value;`
    fn constant(&mut self, at: usize) {
        let (begin, end) = (self.find(at, "=") + 1, self.find(at, ";"));
        if end == begin + 1 {
            self.more(Fault::Bound, &(begin..end));
            self.less(Fault::Bound, &(begin..end));
            return;
        }
        let value = self.source(&(begin..end));
        self.replace(Fault::Bound, &(begin..end), format!("{value} + 1u"));
        self.replace(Fault::Bound, &(begin..end), format!("{value} - 1u"));
    }

    fn find(&self, from: usize, text: &str) -> usize {
        (from..self.tokens.len()).find(|&i| self.is(i, text)).expect("the file parses")
    }

    /// Start, if there is one, and step of `for (var i = start; condition; step)`.
    fn loop_header(&mut self, at: usize) {
        let end = self.find(at, ";");
        if end > at + 2 {
            let begin = self.find(at, "=") + 1;
            self.more(Fault::Bound, &(begin..end));
            self.less(Fault::Bound, &(begin..end));
        }
        let close = partner(&self.tokens, at + 1);
        let step = self.find(end + 1, ";") + 2; // past the `;` and the variable
        if self.is(step, "++") {
            self.replace(Fault::Stride, &(step..step + 1), " += 2u");
        } else {
            self.more(Fault::Stride, &(step + 1..close));
            self.less(Fault::Stride, &(step + 1..close));
        }
    }

    /// `[i]`, where nothing else has changed it.
    fn index(&mut self, at: usize) {
        let end = partner(&self.tokens, at);
        if end == at + 2 && self.tokens[at + 1].kind == Kind::Number {
            let n: u32 = self.tokens[at + 1]
                .text
                .trim_end_matches('u')
                .parse()
                .expect("an index is an integer");
            self.replace(Fault::Offset, &(at + 1..end), (n + 1).to_string());
        } else if end == at + 2 {
            self.more(Fault::Offset, &(at + 1..end));
        }
    }

    /// The arguments of a call; of `min` and `max`, what happens without them.
    fn call(&mut self, open: usize) {
        let close = partner(&self.tokens, open);
        let arguments = self.arguments(open, close);
        let callee = self.tokens[open - 1].text;
        let declared = open >= 2 && self.is(open - 2, "fn");
        if declared || callee == "for" || callee == "if" {
            return;
        }
        if let ("min" | "max", [a, b]) = (callee, arguments.as_slice()) {
            for (kept, lost) in [(a, b), (b, a)] {
                let whole = open - 1..close + 1;
                self.replace(Fault::Bound, &whole, format!("({})", self.source(kept)));
                // `a + b` is one more when `a` is
                if !(lost.start..lost.end).any(|at| self.is(at, "+") || self.is(at, "-")) {
                    self.more(Fault::Bound, lost);
                }
            }
        }
        if let ("select", [a, b, condition]) = (callee, arguments.as_slice()) {
            let swapped = format!("{}, {}, {}", self.source(b), self.source(a), self.source(condition));
            self.replace(Fault::Negated, &(a.start..condition.end), swapped);
        }
        for argument in arguments.iter().filter(|argument| argument.len() <= 3) {
            self.more(Fault::Offset, argument);
        }
    }

    fn arguments(&self, open: usize, close: usize) -> Vec<Range<usize>> {
        let mut arguments = Vec::new();
        let (mut begin, mut at) = (open + 1, open + 1);
        while at <= close && close > open + 1 {
            if at == close || self.is(at, ",") {
                if at > begin {
                    arguments.push(begin..at);
                }
                begin = at + 1;
            }
            at = if self.is(at, "(") || self.is(at, "[") {
                partner(&self.tokens, at) + 1
            } else {
                at + 1
            };
        }
        arguments
    }

    /// Parameters and literals that no other rule has reached, and the other direction of literals.
    fn leftovers(&mut self, at: usize) {
        if at > 0 && opposite(self.tokens[at - 1].text).is_some_and(|(_, boundary)| boundary.is_some()) {
            return; // the comparison itself has been moved both ways
        }
        if self.is(at, "params") && self.is(at + 1, ".") {
            self.more(Fault::Bound, &(at..at + 3));
        }
        if literal(self.tokens[at].text).is_some() {
            self.more(Fault::Offset, &(at..at + 1));
            self.less(Fault::Offset, &(at..at + 1));
        }
    }
}
