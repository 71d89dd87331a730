//! Texts with placeholders, checked when the configuration is read. Refuses to be a language: a name in braces stands
//! for a value, and that is all.

use std::fmt::Write as _;

use serde::Deserialize;

use super::message::Message;

/// What may stand in braces.
const PLACEHOLDERS: [&str; 12] = [
    "event", "headline", "host", "level", "message", "profile", "reasons", "result", "run", "state",
    "subject", "time",
];

/// A text such as `{host}: {headline}`. `{{` and `}}` are braces.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Value(&'static str),
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            match letter {
                '{' | '}' if letters.peek() == Some(&letter) => {
                    letters.next();
                    plain.push(letter);
                }
                '{' => {
                    let mut name = String::new();
                    loop {
                        match letters.next() {
                            Some('}') => break,
                            Some(letter) => name.push(letter),
                            None => {
                                return Err(format!(
                                    "`{{{name}` has no closing brace; write `{{{{` for a brace"
                                ));
                            }
                        }
                    }
                    let known = PLACEHOLDERS.into_iter().find(|known| *known == name);
                    let known = known.ok_or_else(|| {
                        format!("there is no placeholder `{{{name}}}`; there are {}", PLACEHOLDERS.join(", "))
                    })?;
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                    pieces.push(Piece::Value(known));
                }
                '}' => return Err("a `}` stands alone; write `}}` for a brace".to_owned()),
                letter => plain.push(letter),
            }
        }
        pieces.push(Piece::Text(plain));
        Ok(Self(pieces))
    }
}

impl Template {
    /// The text for a message; what it has no value for is a dash.
    pub fn fill(&self, message: &Message) -> String {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Value(name) => {
                    let value = message.value(name);
                    // writing to a String cannot fail
                    let _ = write!(text, "{}", if value.is_empty() { "-" } else { &value });
                }
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn placeholders_are_checked_when_they_are_read() {
        for (text, word) in
            [("{hots}", "hots"), ("{host", "closing"), ("a } b", "stands alone"), ("{}", "{}")]
        {
            let mistake = Template::try_from(text.to_owned()).unwrap_err();
            assert!(mistake.contains(word), "{text}: {mistake}");
        }
    }

    #[test]
    fn every_placeholder_has_its_value() {
        let message = Message::example();
        for name in PLACEHOLDERS {
            let filled = Template::try_from(format!("<{{{name}}}>")).unwrap().fill(&message);
            assert!(filled.len() > 2 && filled != "<->", "{name}: {filled}");
        }
        let template = Template::try_from("{{{host}}} {result}".to_owned()).unwrap();
        assert_eq!(template.fill(&message), "{node1} fail");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = Template::try_from(text);
        }

        #[test]
        fn text_without_braces_stays(text in "[^{}]{0,40}") {
            let template = Template::try_from(text.clone()).unwrap();
            prop_assert_eq!(template.fill(&Message::example()), text);
        }
    }
}
