//! A failure in the form in which Java clients of Flink expect it: Java's serialization of `SerializedThrowable`, in Base64.
//!
//! Clients read nothing else of a failure, and fail themselves without it. Written by hand from the grammar in "Java Object
//! Serialization Specification", chapter 6; the object carries no serialized original, so clients show its text.

const MAGIC_AND_VERSION: [u8; 4] = [0xac, 0xed, 0, 5];
const NULL: u8 = 0x70;
const CLASS: u8 = 0x72;
const OBJECT: u8 = 0x73;
const STRING: u8 = 0x74;
const END: u8 = 0x78;
const LONG_STRING: u8 = 0x7c;
/// The class has fields only, or writes an end mark behind them.
const SERIALIZABLE: u8 = 2;
const WRITES: u8 = 1;

/// The failure of a Java-like class name, with all the text there is about it.
pub(super) fn serialized_throwable(class: &str, text: &str) -> String {
    let mut out = MAGIC_AND_VERSION.to_vec();
    out.push(OBJECT);
    describe(
        &mut out,
        "org.apache.flink.util.SerializedThrowable",
        7_284_183_123_441_947_635,
        SERIALIZABLE,
        &[
            ("serializedException", "[B"),
            ("fullStringifiedStackTrace", "Ljava/lang/String;"),
            ("originalErrorClassName", "Ljava/lang/String;"),
        ],
    );
    describe(&mut out, "java.lang.Exception", -3_387_516_993_124_229_948, SERIALIZABLE, &[]);
    describe(
        &mut out,
        "java.lang.Throwable",
        -3_042_686_055_658_047_285,
        SERIALIZABLE | WRITES,
        &[
            ("cause", "Ljava/lang/Throwable;"),
            ("detailMessage", "Ljava/lang/String;"),
            ("stackTrace", "[Ljava/lang/StackTraceElement;"),
            ("suppressedExceptions", "Ljava/util/List;"),
        ],
    );
    out.push(NULL);
    // The fields' values, from the top of the hierarchy down.
    out.push(NULL);
    string(&mut out, &format!("{class}: {}", text.lines().next().unwrap_or_default()));
    out.extend([NULL, NULL, END]);
    out.push(NULL);
    string(&mut out, &format!("{class}: {text}"));
    string(&mut out, class);
    base64(&out)
}

fn describe(out: &mut Vec<u8>, class: &str, serial: i64, flags: u8, fields: &[(&str, &str)]) {
    out.push(CLASS);
    short_text(out, &modified_utf8(class));
    out.extend(serial.to_be_bytes());
    out.push(flags);
    out.extend((fields.len() as u16).to_be_bytes());
    for (name, kind) in fields {
        out.push(kind.as_bytes()[0]);
        short_text(out, &modified_utf8(name));
        string(out, kind);
    }
    out.push(END);
}

fn string(out: &mut Vec<u8>, text: &str) {
    let bytes = modified_utf8(text);
    if bytes.len() <= usize::from(u16::MAX) {
        out.push(STRING);
        short_text(out, &bytes);
    } else {
        out.push(LONG_STRING);
        out.extend((bytes.len() as u64).to_be_bytes());
        out.extend(bytes);
    }
}

fn short_text(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u16).to_be_bytes());
    out.extend(bytes);
}

/// As Java writes texts: each UTF-16 unit by itself, and no zero byte.
fn modified_utf8(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for unit in text.encode_utf16() {
        let [six_low, six_mid] = [0x80 | (unit & 0x3f) as u8, 0x80 | (unit >> 6 & 0x3f) as u8];
        match unit {
            1..=0x7f => bytes.push(unit as u8),
            0..=0x7ff => bytes.extend([0xc0 | (unit >> 6) as u8, six_low]),
            _ => bytes.extend([0xe0 | (unit >> 12) as u8, six_mid, six_low]),
        }
    }
    bytes
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let padded = [group[0], group.get(1).copied().unwrap_or(0), group.get(2).copied().unwrap_or(0)];
        let bits = u32::from_be_bytes([0, padded[0], padded[1], padded[2]]);
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit) & 0x3f) as usize;
            text.push(if digit <= group.len() { DIGITS[index] as char } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_the_standard_one() {
        for (text, expect) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(text.as_bytes()), expect);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xbf]), "+/+/");
    }

    #[test]
    fn texts_are_in_javas_utf8() {
        assert_eq!(modified_utf8("a\0ä€"), [b'a', 0xc0, 0x80, 0xc3, 0xa4, 0xe2, 0x82, 0xac]);
        assert_eq!(modified_utf8("😀"), [0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80]);
    }

    /// Read back by a JVM when this was written; the bytes must not change.
    #[test]
    fn a_failure_is_the_stream_that_java_read() {
        let stream = serialized_throwable("TaskPanicked", "panicked: oh\n    at src/main.rs:1:2");
        assert!(stream.starts_with("rO0ABXNyAClvcmcuYXBhY2hlLmZsaW5rLnV0aWwuU2VyaWFsaXplZFRocm93YWJsZWUW"), "{stream}");
        let long = serialized_throwable("JobFailed", &"x".repeat(70_000));
        assert!(long.len() > 70_000 * 4 / 3);
    }
}
