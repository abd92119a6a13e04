use super::*;

fn check(html: &str, expected: &str) {
    assert_eq!(to_text(html), expected, "{html}");
}

#[test]
fn markup_becomes_readable_text() {
    check(
        "Hello <b>Ada</b>,<br>your  order\n is <i>late</i>.",
        "Hello Ada,\nyour order is late.",
    );
    check("<p>One</p><p>Two</p>", "One\n\nTwo");
    check("<div>One</div><div><br></div><div>Two</div>", "One\n\nTwo");
    check("<ul><li>red</li><li>blue</li></ul>", "- red\n- blue");
    check(
        "<table><tr><td>Size</td><td>42</td></tr><tr><td>Colour</td></tr></table>",
        "Size 42\nColour",
    );
    check("<pre>a\n  b</pre>", "a\n  b");
    check(
        "&lt;b&gt; &auml;&#228;&#xe4; &euro;5 &nbsp; &unknown; &amp;amp; &#0; &#150;",
        "<b> äää €5 &unknown; &amp; \u{fffd} –",
    );
}

#[test]
fn scripts_styles_and_comments_are_not_read_out() {
    check(
        "<style>p{color:red}</style>Hi<script>if(a<b){}</script><!-- <p>no</p> --> you",
        "Hi you",
    );
    check(
        "<!DOCTYPE html><head><title></title></head><![if !vml]>Hi<![endif]>",
        "Hi",
    );
    check("<!--[if gte mso 9]><xml>x</xml><![endif]-->Hi", "Hi");
}

#[test]
fn links_stay_readable() {
    check(
        "<a href=\"https://shop.example/r/1\">your return</a>",
        "your return <https://shop.example/r/1>",
    );
    check(
        "<a href='https://shop.example/'>shop.example</a>",
        "shop.example",
    );
    check(
        "<a href=\"mailto:ada@shop.example?subject=x\">write us</a>",
        "write us <ada@shop.example>",
    );
    check("<a href=\"javascript:alert(1)\">press</a>", "press");
}

#[test]
fn quotations_come_out_as_quoted_lines() {
    check(
        "Yes<blockquote>One<br>Two<blockquote>Deep</blockquote></blockquote>mine",
        "Yes\n> One\n> Two\n> > Deep\nmine",
    );
    check(
        "Yes<div class=\"x yahoo_quoted\"><div>On Monday</div><div>old</div></div><div>mine</div>",
        "Yes\n> On Monday\n> old\nmine",
    );
    check(
        "<blockquote style=\"margin: 0 0 0 40px; border: none; padding: 0px\">mine</blockquote>",
        "mine",
    );
}

#[test]
fn damaged_markup_is_read_as_far_as_it_goes() {
    check("3 < 4 and 5 > 4", "3 < 4 and 5 > 4");
    check("a <b", "a <b");
    check("<p title=\"a>b\">x", "x");
    check("<p title='never closed>x", "x");
    check("<!-- never closed>x", "x");
    check("<style>never closed", "never closed");
    check("</div></blockquote>x", "x");
    check("", "");
}

#[test]
fn hostile_markup_costs_linear_time() {
    let hundred_thousand = |piece: &str| piece.repeat(100_000);
    assert_eq!(to_text(&(hundred_thousand("<div>") + "x")), "x");
    let quoted = to_text(&("<blockquote>".repeat(80_000) + "x"));
    assert_eq!(quoted, "> > > > > > > > x");
    for piece in [
        "<a \"",
        "<a '>",
        "<!--",
        "<style>",
        "<a href=x>",
        "&",
        "&#",
        "<",
        "</",
        "<br>",
        "<div class=yahoo_quoted>",
    ] {
        assert!(
            to_text(&hundred_thousand(piece)).len() <= HTML_BYTES_MAX * 2,
            "{piece}"
        );
    }
}
