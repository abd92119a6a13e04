//! Writes text as a browser would lay it out: white space collapsed, blocks on lines of their own,
//! quoted lines with their prefix.

/// More blank lines than this in a row say nothing.
const LINE_BREAKS_MAX: usize = 3;

#[derive(Default)]
pub struct Writer {
    out: String,
    /// Line breaks owed before the next character.
    breaks: usize,
    space: bool,
    depth: usize,
    /// The depth of the last line written.
    depth_before: usize,
    preformatted: usize,
}

impl Writer {
    pub fn text(&mut self, text: &str) {
        if self.preformatted > 0 {
            return self.preformatted_text(text);
        }
        let mut rest = text;
        while !rest.is_empty() {
            let word_start = rest.find(|c| !is_space(c)).unwrap_or(rest.len());
            self.space |= word_start > 0;
            let (_, from_word) = rest.split_at(word_start);
            let word_end = from_word.find(is_space).unwrap_or(from_word.len());
            let (word, behind) = from_word.split_at(word_end);
            if !word.is_empty() {
                self.owed_space();
                self.put(word);
            }
            rest = behind;
        }
    }

    fn preformatted_text(&mut self, text: &str) {
        for (at, line) in text.split('\n').enumerate() {
            if at > 0 {
                self.line_break();
            }
            if !line.is_empty() {
                self.put(line.trim_end_matches('\r'));
            }
        }
    }

    fn owed_space(&mut self) {
        if self.space && self.breaks == 0 && !self.out.is_empty() {
            self.put(" ");
        }
        self.space = false;
    }

    /// Writes as it is, without collapsing white space.
    pub fn raw(&mut self, text: &str) {
        match text.starts_with(' ') {
            true => self.space = false,
            false => self.owed_space(),
        }
        self.put(text);
    }

    pub fn space(&mut self) {
        self.space = true;
    }

    /// What `<br>` does.
    pub fn line_break(&mut self) {
        self.breaks += 1;
        self.space = false;
    }

    /// Starts or ends a block: at least `breaks` line breaks before what follows.
    pub fn block(&mut self, breaks: usize) {
        self.breaks = self.breaks.max(breaks);
        self.space = false;
    }

    pub fn preformatted(&mut self, starts: bool) {
        match starts {
            true => self.preformatted += 1,
            false => self.preformatted = self.preformatted.saturating_sub(1),
        }
    }

    /// Takes effect with the next line; the caller has ended the line before.
    pub fn quote_depth(&mut self, depth: usize) {
        self.depth = depth;
    }

    pub fn length(&self) -> usize {
        self.out.len()
    }

    pub fn written_since(&self, from: usize) -> &str {
        self.out.get(from..).unwrap_or_default()
    }

    pub fn finish(mut self) -> String {
        self.out.truncate(self.out.trim_end().len());
        self.out
    }

    fn put(&mut self, text: &str) {
        if self.out.is_empty() {
            self.breaks = 0;
            self.prefix(self.depth);
        }
        for left in (0..self.breaks.min(LINE_BREAKS_MAX)).rev() {
            let line_end = self.out.trim_end_matches([' ', '\t']).len();
            self.out.truncate(line_end);
            self.out.push('\n');
            // A blank line between a quotation and its surroundings is not quoted.
            match left {
                0 => self.prefix(self.depth),
                _ => self.prefix(self.depth.min(self.depth_before)),
            }
        }
        self.breaks = 0;
        self.depth_before = self.depth;
        self.out.push_str(text);
    }

    fn prefix(&mut self, depth: usize) {
        for _ in 0..depth {
            self.out.push_str("> ");
        }
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{c}' | '\u{a0}')
}
