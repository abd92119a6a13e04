use super::*;

fn mails(text: &str, quoting: Quoting) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mails");
    std::fs::write(&path, text).unwrap();
    let how = How {
        quoting,
        certain: true,
    };
    let mut mbox = Mbox::open(&path, how, 0).unwrap();
    let mut found = Vec::new();
    while let Some(item) = mbox.next().unwrap() {
        let bytes = item.content.unwrap();
        found.push(String::from_utf8(bytes.to_vec()).unwrap());
        // Whatever comes next is found from there, too.
        let Behind::Offset(after) = item.after else {
            panic!("an mbox has offsets")
        };
        let mut rest = Mbox::open(&path, how, after).unwrap();
        let next = rest.next().unwrap().map(|item| item.content.unwrap());
        let again = text.get(after as usize..).unwrap();
        assert_eq!(next.is_some(), again.starts_with("From "), "{again}");
    }
    found
}

const HOW: How = How {
    quoting: Quoting::Mboxrd,
    certain: false,
};

const LINE: &str = "From kim@c.example Mon Jan  5 09:00:00 2026\n";

#[test]
fn a_quoted_line_gets_back_what_its_way_of_quoting_added() {
    let text = format!("{LINE}A: b\n\n>From here\n>>From there\n> From me\nFrom: you\n");
    let body = |mails: Vec<String>| mails[0].split_once("\r\n\r\n").unwrap().1.to_owned();
    assert_eq!(
        body(mails(&text, Quoting::Mboxrd)),
        "From here\r\n>From there\r\n> From me\r\nFrom: you\r\n"
    );
    assert_eq!(
        body(mails(&text, Quoting::Mboxo)),
        "From here\r\n>>From there\r\n> From me\r\nFrom: you\r\n"
    );
}

#[test]
fn mails_begin_at_lines_that_a_header_follows_and_lose_the_empty_line_behind_them() {
    let text = format!(
        "{LINE}A: 1\n\nFrom Monday on it rained.\n\nFrom me\n\n{LINE}A: 2\n\nx\n\
         From 17@xxx Tue Jun 02 10:11:12 +0000 2026\r\nA: 3\r\n\r\ny\r\n\n\
         From - Wed Jan 07 10:11 2026\nA: 4\n\n"
    );
    assert_eq!(
        mails(&text, Quoting::Mboxrd),
        [
            "A: 1\r\n\r\nFrom Monday on it rained.\r\n\r\nFrom me\r\n",
            "A: 2\r\n\r\nx\r\n",
            "A: 3\r\n\r\ny\r\n",
            "A: 4\r\n",
        ]
    );
}

#[test]
fn a_line_without_end_and_a_mail_that_is_too_large_take_no_memory_and_hide_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mails");
    let large = "x".repeat(usize::try_from(ITEM_BYTES_MAX).unwrap() + 1);
    let text = format!("{LINE}A: 1\n\n{large}\n\n{LINE}A: 2\n\nsmall\n");
    std::fs::write(&path, text).unwrap();
    let mut mbox = Mbox::open(&path, HOW, 0).unwrap();
    let first = mbox.next().unwrap().unwrap();
    assert!(first.content.unwrap_err().contains("larger than"));
    assert!(mbox.piece.capacity() <= 2 * PIECE_BYTES_MAX as usize);
    let second = mbox.next().unwrap().unwrap();
    assert!(second.content.unwrap().ends_with(b"small\r\n"));
    assert!(mbox.next().unwrap().is_none());
}

/// What is read of a file, and what is said of it at its end.
fn read(text: &[u8]) -> (Vec<Result<Bytes, String>>, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mails");
    std::fs::write(&path, text).unwrap();
    let mut mbox = Mbox::open(&path, HOW, 0).unwrap();
    let mut found = Vec::new();
    while let Some(item) = mbox.next().unwrap() {
        found.push(item.content);
    }
    (found, mbox.remarks())
}

#[test]
fn mails_are_told_apart_however_a_program_writes_the_line_between_them() {
    for line in [
        "From kim@c.example Mon Jan  5 09:00:00 2026",
        "From - Mon Jan  5 09:00:00 2026",
        "From MAILER-DAEMON Mon Jan  5 09:00 2026",
        "From ",
        "From -",
        "From kim@c.example",
        "From kim@c.example Mon, 05 Jan 2026 09:00:00 +0000",
        "From kim@c.example 2026-01-05T09:00:00Z",
        "From kim@c.example Mon Jan  5 2026",
        "From kim@c.example Mo Jan  5 09:00:00 2026",
        "From kim at c.example  Mon Jan  5 09:00:00 2026",
        "From ???@??? Mon Jan 05 09:00:00 2026",
    ] {
        for end in ["\n", "\r\n"] {
            let mail = format!(
                "{line}\nX-Status: 1\nFrom: kim@c.example\n\nFrom here\nit went.\n\nBye\n\n"
            );
            let text = mail.repeat(20).replace('\n', end);
            let (found, remarks) = read(text.as_bytes());
            assert_eq!(found.len(), 20, "{line:?} {end:?}");
            let [only] = remarks.as_slice() else {
                panic!("{remarks:?}")
            };
            assert!(only.contains(": 20 lines that begin"), "{only}");
            let first = text.find("From here").unwrap();
            let is_placed = only.ends_with(&format!("is at byte {first}"));
            assert!(is_placed, "{only}");
        }
    }
}

#[test]
fn what_begins_no_mail_is_its_text_and_one_mail_with_many_such_lines_is_refused() {
    for (inner, count) in [
        // No header follows.
        ("\nFrom bob Mon Oct  5 09:00:00 2026\nsaid so.\n", 1),
        ("x\nFrom bob Mon Oct  5 09:00:00 2026\nsaid so.\n", 1),
        ("\nFrom Monday on:\nNote: no rain.\n", 1),
        ("\nFrom bob\n\nTo: me\n", 1),
        ("\nFrom bob", 0),
        // No empty line stands before it.
        ("x\nFrom bob\nTo: me\n", 0),
        ("x\n>From bob\nTo: me\n", 0),
    ] {
        let text = format!("{LINE}A: 1\n\n{inner}");
        let (found, remarks) = read(text.as_bytes());
        let [one] = found.as_slice() else {
            panic!("{inner:?}: {found:?}")
        };
        let said = format!(": {count} lines that begin with \"From \" were taken as text");
        let is_said = remarks.iter().any(|remark| remark.contains(&said));
        assert_eq!(is_said, count > 0, "{inner:?}: {remarks:?}");
        match one {
            Ok(_) => assert_eq!(count, 0, "{inner:?}"),
            Err(reason) => assert!(reason.contains("--format mbox"), "{inner:?}: {reason}"),
        }
        assert_eq!(mails(&text, Quoting::Mboxo).len(), 1, "{inner:?}");
        let (two, _) = read(format!("{text}\n\n{LINE}A: 2\n").as_bytes());
        assert!(two.len() == 2 && two.iter().all(Result::is_ok), "{inner:?}");
    }
}

#[test]
fn a_file_that_ends_within_a_line_is_said_to() {
    let whole = format!("{LINE}A: 1\n\nx\n\n{LINE}A: 2\n\nYour parcel\n");
    assert_eq!(read(whole.as_bytes()).1, [""; 0]);
    let (found, remarks) = read(whole.trim_end().as_bytes());
    assert_eq!(found.len(), 2);
    assert!(remarks[0].contains("ends within a line"), "{remarks:?}");
}

#[test]
fn a_file_that_is_no_mbox_is_refused_and_an_empty_one_holds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mails");
    std::fs::write(&path, "Subject: one mail\n\nx\n").unwrap();
    let error = Mbox::open(&path, HOW, 0).err().unwrap();
    assert!(error.contains("no mbox"), "{error}");
    std::fs::write(&path, format!("{LINE}A: 1\n\nx\n").replace('\n', "\r")).unwrap();
    let error = Mbox::open(&path, HOW, 0).err().unwrap();
    assert!(error.contains("tr '\\r' '\\n'"), "{error}");
    std::fs::write(&path, "").unwrap();
    let mut mbox = Mbox::open(&path, HOW, 0).unwrap();
    assert!(mbox.next().unwrap().is_none());
}
