//! The engine differs from Jinja in places; these hold it to what the real one renders.

use super::*;

fn render(source: &str, messages: &[Message]) -> Result<String> {
    let special_tokens = SpecialTokens {
        eos: Some("<e>".into()),
        pad: Some("<p>".into()),
        ..SpecialTokens::default()
    };
    ChatTemplate::new(source, &special_tokens)?.render(messages, true)
}

fn reason(result: Result<String>) -> String {
    match result {
        Err(Error::Template { reason }) => reason,
        other => panic!("expected a template error, got {other:?}"),
    }
}

#[derive(Deserialize)]
struct Golden {
    messages: Vec<GoldenMessage>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct GoldenMessage {
    role: String,
    content: String,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    expected: String,
}

#[test]
fn renders_what_jinja2_renders() {
    let golden: Golden = serde_json::from_str(include_str!("../../../tests/golden/chat/jinja_cases.json")).unwrap();
    let messages: Vec<Message> = golden.messages.into_iter().map(|m| Message::new(m.role, m.content)).collect();
    assert!(golden.cases.len() >= 11);
    for Case { template, expected } in golden.cases {
        assert_eq!(render(&template, &messages).unwrap(), expected, "{template}");
    }
}

#[test]
fn a_template_can_refuse_a_conversation() {
    let source = "{% if messages|length % 2 == 0 %}{{ raise_exception('roles must alternate') }}{% endif %}ok";
    assert_eq!(render(source, &[Message::new("user", "x")]).unwrap(), "ok");
    assert!(reason(render(source, &[])).contains("roles must alternate"));
}

#[test]
fn the_date_is_there() {
    let year = render("{{ strftime_now('%Y') }}", &[]).unwrap();
    assert!(year.len() == 4 && year.as_str() >= "2025", "{year}");
}

#[test]
fn malformed_templates_are_errors() {
    let deep = format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000));
    let nested = "{% if true %}".repeat(5000);
    for source in [
        "{% if %}",
        "{{",
        "{% for m in messages %}",
        "{% generation",
        "{% generation %}",
        "{% nonsense %}",
        "{{ 'a' | nosuchfilter }}",
        "{{ nosuchfunction() }}",
        "{% include 'other' %}",
        "{{ messages[0].content.nosuchmethod() }}",
        "{{ missing.attribute }}",
        "{{ 1 / 0 }}{{ 'a' + 1 }}",
        "{{ strftime_now('%') }}",
        "{{ raise_exception() }}",
        "{{ messages | tojson(nosuch=1) }}",
        &deep,
        &nested,
    ] {
        reason(render(source, &[Message::new("user", "x")]));
    }
}

#[test]
fn endless_templates_stop() {
    let doubled = "{% set ns = namespace(a=[1, 1]) %}{% for i in range(40) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}";
    for source in [
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{{ 'x' * 99999999999 }}",
        "{% set ns = namespace() %}{% set ns.me = ns %}{{ ns | tojson }}",
        &format!("{doubled}{{{{ ns.a | tojson }}}}"),
        "{{ messages | tojson(indent=9999999999) | length + 'x' }}",
    ] {
        reason(render(source, &[]));
    }
}

#[test]
fn finds_the_template_of_a_checkpoint() {
    let load = |config: &str, jinja: Option<&str>| {
        let template = ChatTemplate::from_checkpoint_files(Some(config), jinja)?;
        template.map(|template| template.render(&[], false)).transpose()
    };
    let string = r#"{"chat_template": "string {{ eos_token }}{{ bos_token }}", "eos_token": {"content": "<e>"}, "bos_token": null}"#;
    assert_eq!(load(string, None).unwrap().unwrap(), "string <e>");
    // The file of its own wins, and sees the same special tokens.
    assert_eq!(load(string, Some("file {{ eos_token }}")).unwrap().unwrap(), "file <e>");
    let list = r#"{"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d{{ pad_token }}"}], "pad_token": "<p>"}"#;
    assert_eq!(load(list, None).unwrap().unwrap(), "d<p>");
    // A base model.
    assert_eq!(load("{}", None).unwrap(), None);
    assert!(ChatTemplate::from_checkpoint_files(None, None).unwrap().is_none());
    assert!(ChatTemplate::from_checkpoint_files(None, Some("x")).unwrap().is_some());

    assert!(matches!(
        load(r#"{"chat_template": [{"name": "rag", "template": "r"}]}"#, None),
        Err(Error::Template { .. })
    ));
    for broken in [
        "",
        "[]",
        r#"{"chat_template": 5}"#,
        r#"{"eos_token": 5}"#,
        r#"{"chat_template": [{"name": "default"}]}"#,
    ] {
        assert!(matches!(load(broken, None), Err(Error::Json { .. })), "{broken}");
    }
}

#[test]
fn a_long_conversation_is_within_budget() {
    let source = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}";
    let messages = vec![Message::new("user", "word ".repeat(1000)); 2000];
    assert_eq!(
        render(source, &messages).unwrap().len(),
        2000 * (5000 + "<|im_start|>user\n<|im_end|>\n".len())
    );
}
