//! What a calendar part (RFC 5545, RFC 5546) says, in a few lines that an agent can read. The part
//! itself is kept as a file; nothing is computed from its times, they are shown as they are written.

/// How much of a part is read, in bytes, and how long a value is shown, in characters.
const CALENDAR_BYTES_MAX: usize = 64 * 1024;
const VALUE_CHARS_MAX: usize = 300;

/// The first event or task of a calendar; `None` where there is none.
pub(crate) fn note(calendar: &str) -> Option<String> {
    let lines = unfolded(calendar);
    let mut method = None;
    let mut inside: Option<&str> = None;
    let mut event = Event::default();
    for line in &lines {
        let Some(property) = Property::of(line) else {
            continue;
        };
        match (property.name.as_str(), inside) {
            ("METHOD", _) => method = Some(property.text().to_uppercase()),
            ("BEGIN", None) if matches!(property.value, "VEVENT" | "VTODO") => {
                inside = Some(property.value);
            }
            ("END", Some(component)) if property.value == component => break,
            (_, Some(_)) => event.read(&property),
            _ => {}
        }
    }
    inside?;
    Some(event.lines(method.as_deref().unwrap_or("PUBLISH")))
}

#[derive(Default)]
struct Event {
    summary: Option<String>,
    start: Option<String>,
    end: Option<String>,
    location: Option<String>,
    organizer: Option<String>,
    answers: Vec<String>,
    /// Components inside of it (alarms) have properties of the same names.
    nested: usize,
}

impl Event {
    fn read(&mut self, property: &Property<'_>) {
        match property.name.as_str() {
            "BEGIN" => self.nested += 1,
            "END" => self.nested = self.nested.saturating_sub(1),
            _ if self.nested > 0 => {}
            "SUMMARY" => self.summary = property.shown(),
            "LOCATION" => self.location = property.shown(),
            "DTSTART" => self.start = property.time(),
            "DTEND" | "DUE" => self.end = property.time(),
            "ORGANIZER" => self.organizer = property.person(),
            "ATTENDEE" => {
                let answer = match property.parameter("PARTSTAT").as_deref() {
                    Some("ACCEPTED") => "accepted",
                    Some("DECLINED") => "declined",
                    Some("TENTATIVE") => "tentative",
                    _ => return,
                };
                if let Some(who) = property.person()
                    && self.answers.len() < 5
                {
                    self.answers.push(format!("{answer} by {who}"));
                }
            }
            _ => {}
        }
    }

    fn lines(self, method: &str) -> String {
        let kind = match method {
            "REQUEST" => "invitation",
            "REPLY" => "answer to an invitation",
            "CANCEL" => "cancellation",
            "COUNTER" => "counter-proposal",
            "ADD" => "further date",
            "REFRESH" => "request for the newest version",
            "DECLINECOUNTER" => "counter-proposal declined",
            _ => "event",
        };
        let mut lines = vec![format!("[Calendar: {kind}]")];
        let mut add = |name: &str, value: Option<String>| {
            lines.extend(value.map(|value| format!("{name}: {value}")));
        };
        add("Summary", self.summary);
        let when = match (self.start, self.end) {
            (Some(start), Some(end)) if start != end => Some(format!("{start} to {end}")),
            (start, end) => start.or(end),
        };
        add("When", when);
        add("Where", self.location);
        add("Organiser", self.organizer);
        for answer in self.answers {
            add("Answer", Some(answer));
        }
        lines.join("\n")
    }
}

/// `NAME;PARAM=value;PARAM="quoted: value":value`.
struct Property<'a> {
    name: String,
    parameters: &'a str,
    value: &'a str,
}

impl<'a> Property<'a> {
    fn of(line: &'a str) -> Option<Self> {
        let mut quoted = false;
        let colon = line.find(|c| {
            quoted ^= c == '"';
            c == ':' && !quoted
        })?;
        let (head, value) = line.split_at_checked(colon)?;
        let (name, parameters) = head.split_once(';').unwrap_or((head, ""));
        Some(Self {
            name: name.trim().to_ascii_uppercase(),
            parameters,
            value: value.strip_prefix(':').unwrap_or_default().trim(),
        })
    }

    fn parameter(&self, wanted: &str) -> Option<String> {
        let mut quoted = false;
        let mut parts = self.parameters.split(|c| {
            quoted ^= c == '"';
            c == ';' && !quoted
        });
        let found = parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            name.trim().eq_ignore_ascii_case(wanted).then_some(value)
        });
        let value = found?.trim().trim_matches('"');
        let value: String = value.chars().take(VALUE_CHARS_MAX).collect();
        (!value.is_empty()).then_some(value)
    }

    /// The value with its escapes undone (RFC 5545, section 3.3.11), on one line.
    fn text(&self) -> String {
        let mut out = String::new();
        let mut chars = self.value.chars().take(VALUE_CHARS_MAX);
        while let Some(c) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some('n' | 'N') => out.push(' '),
                    Some(other) => out.push(other),
                    None => {}
                },
                c if c.is_control() => out.push(' '),
                c => out.push(c),
            }
        }
        out.trim().to_owned()
    }

    fn shown(&self) -> Option<String> {
        Some(self.text()).filter(|text| !text.is_empty())
    }

    /// `20260303T100000Z` as `2026-03-03 10:00 UTC`; what is written otherwise, as it is.
    fn time(&self) -> Option<String> {
        let text = self.text();
        let zone = match text.ends_with('Z') {
            true => Some("UTC".to_owned()),
            false => self.parameter("TZID"),
        };
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        let part = |range: std::ops::Range<usize>| digits.get(range);
        let date = match (part(0..4), part(4..6), part(6..8)) {
            (Some(year), Some(month), Some(day)) => format!("{year}-{month}-{day}"),
            _ => return self.shown(),
        };
        let time = part(8..10).zip(part(10..12));
        let time = time.map(|(hour, minute)| format!(" {hour}:{minute}"));
        let zone = zone.filter(|_| time.is_some());
        let zone = zone.map(|zone| format!(" {zone}"));
        Some(format!(
            "{date}{}{}",
            time.unwrap_or_default(),
            zone.unwrap_or_default()
        ))
    }

    /// `CN` and the address of an organiser or attendee.
    fn person(&self) -> Option<String> {
        let text = self.text();
        let lower = text.to_ascii_lowercase();
        let address = match lower.strip_prefix("mailto:") {
            Some(address) => address.to_owned(),
            None => text,
        };
        match self.parameter("CN") {
            Some(name) if !address.is_empty() => Some(format!("{name} <{address}>")),
            Some(name) => Some(name),
            None => Some(address).filter(|address| !address.is_empty()),
        }
    }
}

/// Lines with their folds undone (RFC 5545, section 3.1).
fn unfolded(calendar: &str) -> Vec<String> {
    let mut end = calendar.len().min(CALENDAR_BYTES_MAX);
    while !calendar.is_char_boundary(end) {
        end -= 1;
    }
    let mut lines: Vec<String> = Vec::new();
    for line in calendar.get(..end).unwrap_or_default().lines() {
        let line = line.trim_end_matches('\r');
        let folded = line.strip_prefix([' ', '\t']);
        match (folded, lines.last_mut()) {
            (Some(rest), Some(last)) => last.push_str(rest),
            _ => lines.push(line.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(calendar: &str, expected: &[&str]) {
        let found = note(&calendar.replace('\n', "\r\n"));
        assert_eq!(found.as_deref().unwrap_or_default(), expected.join("\n"));
    }

    #[test]
    fn an_invitation_is_told_in_a_few_lines() {
        check(
            "BEGIN:VCALENDAR\nMETHOD:REQUEST\nBEGIN:VTIMEZONE\nDTSTART:19700101T000000\nEND:VTIMEZONE\nBEGIN:VEVENT\nSUMMARY:Pick-up\\, sofa\\nback do\n or\nDTSTART;TZID=Europe/Berlin:20260303T100000\nDTEND;TZID=Europe/Berlin:20260303T110000\nLOCATION:Yard 4\nORGANIZER;CN=\"Doe; Jane: shop\":MAILTO:Jane@Example.org\nATTENDEE;PARTSTAT=NEEDS-ACTION:mailto:support@shop.example\nBEGIN:VALARM\nSUMMARY:Wake up\nEND:VALARM\nEND:VEVENT\nBEGIN:VEVENT\nSUMMARY:Another\nEND:VEVENT\nEND:VCALENDAR\n",
            &[
                "[Calendar: invitation]",
                "Summary: Pick-up, sofa back door",
                "When: 2026-03-03 10:00 Europe/Berlin to 2026-03-03 11:00 Europe/Berlin",
                "Where: Yard 4",
                "Organiser: Doe; Jane: shop <jane@example.org>",
            ],
        );
    }

    #[test]
    fn an_answer_and_a_cancellation_say_so() {
        check(
            "BEGIN:VCALENDAR\nMETHOD:REPLY\nBEGIN:VEVENT\nSUMMARY:Visit\nDTSTART;VALUE=DATE:20260303\nATTENDEE;PARTSTAT=DECLINED;CN=Ada:mailto:ada@example.org\nEND:VEVENT\n",
            &[
                "[Calendar: answer to an invitation]",
                "Summary: Visit",
                "When: 2026-03-03",
                "Answer: declined by Ada <ada@example.org>",
            ],
        );
        check(
            "METHOD:CANCEL\nBEGIN:VEVENT\nDTSTART:20260303T100000Z\nEND:VEVENT\n",
            &["[Calendar: cancellation]", "When: 2026-03-03 10:00 UTC"],
        );
    }

    #[test]
    fn what_is_no_event_says_nothing() {
        for calendar in [
            "",
            "hello",
            "BEGIN:VCALENDAR\nMETHOD:REQUEST\nEND:VCALENDAR\n",
            ":\n;:",
        ] {
            assert_eq!(note(calendar), None, "{calendar}");
        }
        assert!(note(&"BEGIN:VEVENT\nSUMMARY:é".repeat(10_000)).is_some());
    }
}
