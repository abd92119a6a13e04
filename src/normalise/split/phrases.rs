//! The words mail programs use around quotations, in lower case.

/// First words of "On … wrote:".
#[rustfmt::skip]
pub const LEADS: &[&str] = &[
    "on", "am", "le", "el", "il", "op", "em", "w dniu", "dnia", "den", "på", "à", "în", "pe", "на",
    "в", "dne", "dňa", "στις", "vào", "pada", "gửi", "il giorno", "il giorno", "a las", "mon",
    "tue", "wed", "thu", "fri", "sat", "sun", "ons", "tir", "tors", "lør", "søn", "man", "from",
    "le lun", "de", "op di",
];

/// What the one quoted did.
#[rustfmt::skip]
pub const VERBS: &[&str] = &[
    "wrote", "writes", "schrieb", "schrieben", "a écrit", "a ecrit", "écrivait", "escribió",
    "escribio", "ha escrito", "ha scritto", "scrisse", "schreef", "geschreven", "pisze", "napisał",
    "napisała", "napisał(a)", "napisal", "napisal(a)", "napsal", "napsal(a)", "napísal",
    "escreveu", "skrev", "kirjoitti", "írta", "irta", "a scris", "yazdı", "yazdi", "έγραψε",
    "написал", "написала", "написав", "пишет", "написа", "пише", "写道", "寫道", "작성", "のメッセージ",
    "đã viết", "menulis", "kirjutas", "rašė", "rakstīja", "je napisao", "piše",
];

/// Between dashes, above the message that is answered.
#[rustfmt::skip]
pub const ORIGINALS: &[&str] = &[
    "original message", "original appointment", "original mail", "ursprüngliche nachricht",
    "originalnachricht", "original-nachricht", "message d'origine", "message d’origine",
    "message original", "mensaje original", "messaggio originale", "messaggio originario",
    "oorspronkelijk bericht", "oryginalna wiadomość", "wiadomość oryginalna",
    "wiadomość pierwotna", "originalmeddelande", "ursprungligt meddelande",
    "oprindelig meddelelse", "opprinnelig melding", "original melding", "alkuperäinen viesti",
    "mensagem original", "původní zpráva", "pôvodná správa", "eredeti üzenet", "mesaj original",
    "orijinal mesaj", "исходное сообщение", "вихідне повідомлення", "原始邮件", "原始郵件", "元のメッセージ",
    "원본 메시지", "reply message", "reply above this line",
];

/// Above a message that is passed on.
#[rustfmt::skip]
pub const FORWARDS: &[&str] = &[
    "forwarded message", "forwarded by", "begin forwarded message", "fwd",
    "weitergeleitete nachricht", "anfang der weitergeleiteten nachricht",
    "weitergeleitete message", "message transféré", "début du message réexpédié",
    "début du message transféré", "mensaje reenviado", "inicio del mensaje reenviado",
    "messaggio inoltrato", "inizio messaggio inoltrato", "doorgestuurd bericht",
    "begin doorgestuurd bericht", "przekazana wiadomość", "wiadomość przekazana dalej",
    "początek przekazywanej wiadomości", "mensagem encaminhada",
    "início da mensagem reencaminhada", "vidarebefordrat meddelande", "videresendt meddelelse",
    "videresendt melding", "välitetty viesti", "přeposlaná zpráva", "továbbított üzenet",
    "пересылаемое сообщение", "пересланное сообщение", "转发的邮件", "転送メッセージ",
];

/// What a line of a header block names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    From,
    Date,
    To,
    Copy,
    Subject,
}

#[rustfmt::skip]
pub const LABELS: &[(&[&str], Label)] = &[
    (
        &[
            "from", "von", "de", "da", "van", "od", "från", "fra", "lähettäjä", "от", "від",
            "feladó", "gönderen", "kimden", "mittente", "afzender", "expéditeur", "remitente",
            "remetente", "nadawca", "absender", "de la", "发件人", "寄件者", "差出人", "보낸 사람",
        ],
        Label::From,
    ),
    (
        &[
            "sent", "date", "sent at", "date sent", "gesendet", "gesendet am", "datum", "envoyé",
            "envoyé le", "message du", "enviado", "enviado el", "enviada em", "enviado em",
            "fecha", "inviato", "inviato il", "data", "verzonden", "datum verzonden", "wysłano",
            "wysłane", "data wysłania", "skickat", "sendt", "dato", "lähetetty", "päivämäärä",
            "päiväys", "odesláno", "dátum", "elküldve", "küldve", "gönderilme tarihi", "tarih",
            "trimis", "отправлено", "дата", "надіслано", "发送时间", "日期", "送信日時", "日時", "보낸 날짜",
        ],
        Label::Date,
    ),
    (
        &[
            "to", "an", "à", "a", "para", "aan", "do", "till", "til", "vastaanottaja", "кому",
            "címzett", "kime", "komu", "către", "pour", "destinatario", "empfänger", "收件人", "收件者",
            "宛先", "받는 사람",
        ],
        Label::To,
    ),
    (
        &[
            "cc", "kopie", "copie à", "copie", "copia", "dw", "kopia", "kopi", "kopio", "копия",
            "másolat", "bilgi", "bcc", "reply-to", "reply to", "antwort an", "importance",
            "priority", "attachments", "wichtigkeit", "anlagen", "抄送", "参照",
        ],
        Label::Copy,
    ),
    (
        &[
            "subject", "betreff", "objet", "sujet", "asunto", "oggetto", "onderwerp", "temat",
            "ämne", "emne", "aihe", "тема", "tárgy", "konu", "předmět", "predmet", "assunto",
            "subiect", "re", "主题", "主旨", "件名", "제목",
        ],
        Label::Subject,
    ),
];

/// Starts of the line a phone adds, whatever the phone is called.
#[rustfmt::skip]
pub const OWN_DEVICE: &[&str] = &[
    "sent from my ", "gesendet von meinem ", "envoyé de mon ", "envoyé depuis mon ",
    "enviado desde mi ", "enviado do meu ", "inviato dal mio ", "verstuurd vanaf mijn ",
    "verzonden vanaf mijn ", "wysłane z mojego ", "wysłano z mojego ", "skickat från min ",
    "sendt fra min ", "发自我的", "從我的",
];

/// Starts of the lines phones and mail programs add, which name one of [`DEVICES`].
#[rustfmt::skip]
pub const DEVICE_SIGNATURES: &[&str] = &[
    "sent from ", "sent via ", "sent with ", "sent using ", "get outlook for", "von mein",
    "gesendet ", "diese nachricht wurde von meinem ", "holen sie sich outlook", "outlook für ",
    "envoyé ", "obtenir outlook pour", "télécharger outlook", "enviado ", "obtener outlook para",
    "obter o outlook", "inviato da", "inviata da", "scarica outlook per", "ottieni outlook per",
    "verstuurd ", "verzonden ", "outlook voor ", "wysłan", "pobierz program outlook", "skickat ",
    "hämta outlook", "sendt ", "lähetetty ", "odesláno ", "poslano ", "trimis de pe",
    "отправлено ", "iphone", "küldve ",
];

/// Devices and mail programs.
#[rustfmt::skip]
pub const DEVICES: &[&str] = &[
    "iphone", "ipad", "android", "samsung", "galaxy", "huawei", "xiaomi", "blackberry", "outlook",
    "mail", "phone", "handy", "yahoo", "mobil", "tablet", "téléphone", "telefon", "telefoon",
    "smartphone", "proton", "sparrow", "spark", "gmx", "web.de", "windows", "mobiltelefon",
    "celular", "móvil", "cellulare", "telefono", "dispositivo", "appareil", "gerät", "device",
];

/// Signs of a signature's contact details.
pub const CONTACT_SIGNS: &[&str] = &["@", "www.", "http", "tel", "phone", "mobil", "fax", "+"];
