//! Lines on a terminal of which the last ones are drawn anew, or lines on paper that only follow each other.
//!
//! Invariant: no line is wider than the terminal, and none wider than 80 columns; on paper nothing is ever taken back.
//! Must not know: what the lines say.

use std::io::{self, IsTerminal, Write};

/// What every terminal has; letters and devices of old had no more.
pub const COLUMNS: usize = 80;

/// How a part of a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As it is.
    Plain,
    /// A heading.
    Title,
    /// A device.
    Device,
    /// The relay.
    Relay,
    /// Exchange Online.
    Exchange,
    /// What ended well.
    Good,
    /// What did not.
    Bad,
    /// What is less important.
    Dim,
}

/// A line, in parts.
pub type Line = Vec<(Style, String)>;

/// A line of one part.
pub fn line(style: Style, text: impl Into<String>) -> Line {
    vec![(style, text.into())]
}

/// What can be done where the lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paper {
    /// Lines can be drawn anew.
    pub is_live: bool,
    /// ANSI colours.
    pub has_colour: bool,
}

impl Paper {
    /// Of standard output: live on a terminal of 80 columns and more; colours unless `NO_COLOR` is set.
    pub fn of_stdout() -> Self {
        let is_set = |name| std::env::var_os(name).is_some_and(|v| !v.is_empty());
        let is_dumb = std::env::var_os("TERM").is_none_or(|v| v == "dumb");
        let is_terminal = io::stdout().is_terminal() && !is_dumb;
        Self {
            is_live: is_terminal && width().is_some_and(|w| w >= COLUMNS),
            has_colour: is_terminal && !is_set("NO_COLOR"),
        }
    }
}

fn width() -> Option<usize> {
    rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_col))
}

/// Writes lines.
#[derive(Debug)]
pub struct Screen<W> {
    out: W,
    paper: Paper,
    /// The lines at the end that may be drawn anew, as they stand there.
    drawn: Vec<String>,
}

impl<W: Write> Screen<W> {
    /// Nothing is written yet.
    pub fn new(out: W, paper: Paper) -> Self {
        Self { out, paper, drawn: vec![] }
    }

    /// Whether lines can be drawn anew.
    pub fn is_live(&self) -> bool {
        self.paper.is_live
    }

    /// Writes lines that stay, in place of those that could be drawn anew.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&mut self, lines: &[Line]) -> io::Result<()> {
        self.draw(lines)?;
        self.drawn.clear();
        Ok(())
    }

    /// Draws these lines in place of those drawn last. Only where lines can be drawn anew.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn draw(&mut self, lines: &[Line]) -> io::Result<()> {
        // A terminal that was made smaller would break a line in two, and its number with it.
        let columns = if self.paper.is_live { width().unwrap_or(COLUMNS).min(COLUMNS) } else { COLUMNS };
        let lines: Vec<String> = lines.iter().map(|l| self.painted(l, columns)).collect();
        if lines == self.drawn {
            return Ok(());
        }
        let mut text = String::new();
        if !self.drawn.is_empty() {
            text += &format!("\x1b[{}A\x1b[J", self.drawn.len());
        }
        for line in &lines {
            text += line;
            text.push('\n');
        }
        self.drawn = lines;
        // In one piece, so that nobody sees the lines half drawn.
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    fn painted(&self, line: &Line, columns: usize) -> String {
        let (mut room, mut out) = (columns.saturating_sub(1), String::new());
        for (style, text) in line {
            let text: String = text.chars().take(room).collect();
            room -= text.chars().count();
            match style.code().filter(|_| self.paper.has_colour) {
                Some(code) => out += &format!("\x1b[{code}m{text}\x1b[0m"),
                None => out += &text,
            }
        }
        if !self.paper.has_colour {
            out.truncate(out.trim_end().len());
        }
        out
    }
}

impl Style {
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Title => Some("1"),
            Self::Device => Some("36"),
            Self::Relay => Some("33"),
            Self::Exchange => Some("35"),
            Self::Good => Some("32"),
            Self::Bad => Some("31"),
            Self::Dim => Some("2"),
        }
    }
}

/// The text in lines of at most so many columns, broken at spaces; a word that is longer stands in a line of its own.
pub fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(last) if last.chars().count() + 1 + word.chars().count() <= columns => {
                last.push(' ');
                last.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIVE: Paper = Paper { is_live: true, has_colour: false };

    fn written(screen: Screen<Vec<u8>>) -> String {
        String::from_utf8(screen.out).unwrap()
    }

    #[test]
    fn what_is_drawn_is_drawn_over_and_what_is_written_stays() {
        let mut screen = Screen::new(Vec::new(), LIVE);
        screen.draw(&[line(Style::Plain, "a"), line(Style::Plain, "b")]).unwrap();
        screen.draw(&[line(Style::Plain, "a"), line(Style::Plain, "b")]).unwrap();
        screen.draw(&[line(Style::Plain, "c")]).unwrap();
        screen.write(&[line(Style::Plain, "d")]).unwrap();
        screen.draw(&[line(Style::Plain, "e")]).unwrap();
        assert_eq!(written(screen), "a\nb\n\x1b[2A\x1b[Jc\n\x1b[1A\x1b[Jd\ne\n");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_colours_take_no_room() {
        let mut screen = Screen::new(Vec::new(), Paper { is_live: false, has_colour: true });
        screen.write(&[vec![(Style::Bad, "x".repeat(70)), (Style::Plain, "y".repeat(70))]]).unwrap();
        let expected = format!("\x1b[31m{}\x1b[0m{}\n", "x".repeat(70), "y".repeat(9));
        assert_eq!(written(screen), expected);
    }

    #[test]
    fn text_is_broken_at_spaces() {
        assert_eq!(wrapped("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrapped("extraordinarily long", 7), ["extraordinarily", "long"]);
    }
}
