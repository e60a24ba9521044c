package usedcars;

import java.io.Serializable;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Locale;
import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.sql.catalyst.expressions.BoundReference;
import org.apache.spark.sql.catalyst.expressions.Expression;
import org.apache.spark.sql.catalyst.expressions.GenericInternalRow;
import org.apache.spark.sql.catalyst.expressions.JsonToStructs;
import org.apache.spark.sql.catalyst.plans.logical.LogicalPlan;
import org.apache.spark.sql.types.DataTypes;
import org.apache.spark.sql.types.StringType;
import org.apache.spark.sql.types.StructField;
import org.apache.spark.sql.types.StructType;
import org.apache.spark.unsafe.Platform;
import org.apache.spark.unsafe.types.UTF8String;
import scala.Tuple2;
import scala.collection.Iterator;
import scala.runtime.AbstractPartialFunction;

/**
 * What Spark's `from_json` makes of a text, faster where the text is plain.
 *
 * <p>Plain is what clients send: one object, each field once, texts without escapes, numbers without exponents. It is
 * read in one pass over the bytes; whatever is not plain, or no JSON at all, is read by Spark.
 */
public final class PlainJson implements Serializable {
    private static final int LONGEST = 50_000; // bytes, as Spark's reader has a limit for names
    private static final int DEEPEST = 16;
    private static final int MOST_DIGITS = 17;
    private static final int FIRST_OF_FOUR = -16; // bytes of a character, which Spark's copy escapes
    private static final long ONES = 0x0101010101010101L; // in each of eight bytes
    private static final boolean LITTLE_ENDIAN = ByteOrder.nativeOrder() == ByteOrder.LITTLE_ENDIAN;

    private final Expression sparks; // of a row's first column
    private final int fields;
    private final byte[][] names; // by the hash of the name; none where there is null
    private final int[] places; // of the fields, beside the names

    /** The plan with its `from_json` of fields of text read so. */
    public static LogicalPlan readIn(LogicalPlan plan) {
        return (LogicalPlan) plan.transformAllExpressions(new Replace());
    }

    private static final class Replace extends AbstractPartialFunction {
        public boolean isDefinedAt(Object expression) {
            return expression instanceof JsonToStructs && ofTexts((JsonToStructs) expression);
        }

        public Object apply(Object expression) {
            JsonToStructs json = (JsonToStructs) expression;
            return Calls.of(new PlainJson(json), "read", json.dataType(), new Expression[] {json.child()});
        }
    }

    private static boolean ofTexts(JsonToStructs json) {
        if (!(json.schema() instanceof StructType)) {
            return false;
        }
        StructField[] fields = ((StructType) json.schema()).fields();
        for (int place = 0; place < fields.length; place++) {
            if (!(fields[place].dataType() instanceof StringType)) {
                return false;
            }
        }
        return true;
    }

    private PlainJson(JsonToStructs json) {
        Expression[] text = {new BoundReference(0, DataTypes.StringType, true)};
        sparks = (Expression) json.withNewChildren(Calls.seq(text));
        String ofMalformed = ofMalformed(json);
        String[] columns = ((StructType) json.schema()).fieldNames();
        fields = columns.length;
        int size = Integer.highestOneBit(fields + 1) << 3;
        names = new byte[size][];
        places = new int[size];
        for (int place = 0; place < fields; place++) {
            byte[] name = columns[place].getBytes(StandardCharsets.UTF_8);
            int slot = slot(name, 0, name.length);
            while (names[slot] != null) {
                slot = (slot + 1) & (size - 1);
            }
            names[slot] = name;
            places[slot] = columns[place].equals(ofMalformed) ? -1 : place;
        }
    }

    /** The field in which Spark keeps a text that it can't read; it reads none of that name. */
    private static String ofMalformed(JsonToStructs json) {
        Iterator options = json.options().iterator();
        while (options.hasNext()) {
            Tuple2 option = (Tuple2) options.next();
            if (((String) option._1()).toLowerCase(Locale.ROOT).equals("columnnameofcorruptrecord")) {
                return (String) option._2();
            }
        }
        return "_corrupt_record";
    }

    private int slot(byte[] bytes, int from, int length) {
        int hash = length;
        for (int at = from; at < from + length; at++) {
            hash = 31 * hash + bytes[at];
        }
        return (hash ^ (hash >>> 7) ^ (hash >>> 15)) & (names.length - 1);
    }

    private int field(byte[] bytes, int from, int length) {
        for (int slot = slot(bytes, from, length); names[slot] != null; slot = (slot + 1) & (names.length - 1)) {
            if (Arrays.equals(names[slot], 0, names[slot].length, bytes, from, from + length)) {
                return places[slot];
            }
        }
        return -1;
    }

    /** The fields of the text's object, or what Spark makes of another. */
    public InternalRow read(UTF8String text) {
        if (text.getBaseObject() instanceof byte[] && text.numBytes() <= LONGEST) {
            int from = (int) (text.getBaseOffset() - Platform.BYTE_ARRAY_OFFSET);
            Text plain = new Text((byte[]) text.getBaseObject(), from, from + text.numBytes());
            Object[] values = new Object[fields];
            if (plain.read(values) && (plain.ascii || text.isValid())) {
                return new GenericInternalRow(values);
            }
        }
        return (InternalRow) sparks.eval(new GenericInternalRow(new Object[] {text}));
    }

    /** Of eight bytes: the highest bit of the first one that is a quote, a backslash, a control or not ASCII. */
    private static long unusual(long bytes) {
        long ordered = LITTLE_ENDIAN ? bytes : Long.reverseBytes(bytes);
        long quote = ordered ^ (ONES * '"');
        long backslash = ordered ^ (ONES * '\\');
        long found = ((quote - ONES) & ~quote) | ((backslash - ONES) & ~backslash) | (ordered - ONES * ' ') | ordered;
        return found & (ONES << 7);
    }

    private final class Text {
        private final byte[] bytes;
        private final int end;
        private int at;
        private boolean ascii = true;

        Text(byte[] bytes, int from, int end) {
            this.bytes = bytes;
            this.at = from;
            this.end = end;
        }

        boolean read(Object[] values) {
            boolean[] seen = new boolean[values.length];
            if (next() != '{') {
                return false;
            }
            at++;
            if (next() == '}') {
                at++;
                return next() == -1;
            }
            while (true) {
                if (next() != '"') {
                    return false;
                }
                int from = at + 1;
                if (!text(false)) {
                    return false;
                }
                int field = field(bytes, from, at - 1 - from);
                if (next() != ':') {
                    return false;
                }
                at++;
                if (field < 0) {
                    if (!skip(1, null)) {
                        return false;
                    }
                } else {
                    if (seen[field] || !value(values, field)) {
                        return false;
                    }
                    seen[field] = true;
                }
                int mark = next();
                at++;
                if (mark == '}') {
                    return next() == -1;
                }
                if (mark != ',') {
                    return false;
                }
            }
        }

        /** Of a field that is wanted: as Spark has it in a text. */
        private boolean value(Object[] values, int field) {
            int mark = next();
            int from = at;
            if (mark == '"') {
                if (!text(false)) {
                    return false;
                }
                values[field] = UTF8String.fromBytes(bytes, from + 1, at - from - 2);
                return true;
            }
            if (mark == '{' || mark == '[') {
                Copy copy = new Copy(bytes, end - from);
                if (!skip(1, copy)) {
                    return false;
                }
                values[field] = copy.text();
                return true;
            }
            if (mark == 'n') {
                return word("null");
            }
            if (mark == 't' || mark == 'f') {
                values[field] = UTF8String.fromBytes(bytes, from, mark == 't' ? 4 : 5);
                return word(mark == 't' ? "true" : "false");
            }
            if (!number()) {
                return false;
            }
            values[field] = UTF8String.fromString(written(from));
            return true;
        }

        /** Past a value, with the copy that Spark would make of it: without the blanks. */
        private boolean skip(int depth, Copy copy) {
            int mark = next();
            int from = at;
            if (mark == '{' || mark == '[') {
                return depth < DEEPEST && nested(mark, depth, copy);
            }
            boolean plain;
            if (mark == '"') {
                plain = text(true);
            } else if (mark == 'n') {
                plain = word("null");
            } else if (mark == 't' || mark == 'f') {
                plain = word(mark == 't' ? "true" : "false");
            } else {
                plain = number() && (copy == null || isWritten(from));
            }
            if (plain && copy != null) {
                copy.add(from, at);
            }
            return plain;
        }

        private boolean nested(int open, int depth, Copy copy) {
            int close = open == '{' ? '}' : ']';
            mark(copy);
            if (next() == close) {
                mark(copy);
                return true;
            }
            while (true) {
                if (open == '{') {
                    if (next() != '"' || !skip(depth, copy) || next() != ':') {
                        return false;
                    }
                    mark(copy);
                }
                if (!skip(depth + 1, copy)) {
                    return false;
                }
                int mark = next();
                if (mark != close && mark != ',') {
                    return false;
                }
                mark(copy);
                if (mark == close) {
                    return true;
                }
            }
        }

        private void mark(Copy copy) {
            if (copy != null) {
                copy.add(at, at + 1);
            }
            at++;
        }

        /** The next byte that is no blank, not passed; -1 at the end. */
        private int next() {
            while (at < end) {
                byte mark = bytes[at];
                if (mark > ' ') {
                    return mark;
                }
                if (mark != ' ' && mark != '\t' && mark != '\n' && mark != '\r') {
                    return 0;
                }
                at++;
            }
            return -1;
        }

        /** Past a text; `escaped`: with those escapes that Spark writes as they are. */
        private boolean text(boolean escaped) {
            int at = this.at + 1;
            while (at < end) {
                if (at + 8 <= end) {
                    long unusual = unusual(Platform.getLong(bytes, Platform.BYTE_ARRAY_OFFSET + at));
                    if (unusual == 0) {
                        at += 8;
                        continue;
                    }
                    at += Long.numberOfTrailingZeros(unusual) >>> 3;
                }
                byte mark = bytes[at];
                if (mark == '"') {
                    this.at = at + 1;
                    return true;
                }
                if (mark < ' ') {
                    if (mark >= 0 || (escaped && mark >= FIRST_OF_FOUR)) {
                        return false;
                    }
                    ascii = false;
                } else if (mark == '\\') {
                    at++;
                    if (!escaped || at == end || "\"\\bfnrt".indexOf(bytes[at]) < 0) {
                        return false;
                    }
                }
                at++;
            }
            return false;
        }

        private boolean word(String word) {
            for (int place = 0; place < word.length(); place++) {
                if (at == end || bytes[at] != word.charAt(place)) {
                    return false;
                }
                at++;
            }
            return ended();
        }

        private boolean ended() {
            return at < end && ",}] \t\n\r".indexOf(bytes[at]) >= 0;
        }

        private boolean number() {
            if (at < end && bytes[at] == '-') {
                at++;
            }
            int from = at;
            if (!digits() || (bytes[from] == '0' && at > from + 1)) {
                return false;
            }
            if (at < end && bytes[at] == '.') {
                at++;
                if (!digits()) {
                    return false;
                }
            }
            return at - from <= MOST_DIGITS && ended();
        }

        private boolean digits() {
            int from = at;
            while (at < end && bytes[at] >= '0' && bytes[at] <= '9') {
                at++;
            }
            return at > from;
        }

        /** The number that ends here, as Spark writes it. */
        private String written(int from) {
            String number = new String(bytes, from, at - from, StandardCharsets.ISO_8859_1);
            if (number.indexOf('.') < 0) {
                return number.equals("-0") ? "0" : number;
            }
            return Double.toString(Double.parseDouble(number));
        }

        private boolean isWritten(int from) {
            String number = written(from);
            if (number.length() != at - from) {
                return false;
            }
            for (int place = 0; place < number.length(); place++) {
                if (bytes[from + place] != number.charAt(place)) {
                    return false;
                }
            }
            return true;
        }
    }

    /** Of parts of the bytes, without what lies between them. */
    private static final class Copy {
        private final byte[] bytes;
        private final byte[] copied;
        private int length;
        private int from; // of what is still to be copied
        private int to;

        Copy(byte[] bytes, int most) {
            this.bytes = bytes;
            this.copied = new byte[most];
        }

        void add(int from, int to) {
            if (from != this.to) {
                flush();
                this.from = from;
            }
            this.to = to;
        }

        private void flush() {
            System.arraycopy(bytes, from, copied, length, to - from);
            length += to - from;
        }

        UTF8String text() {
            flush();
            return UTF8String.fromBytes(copied, 0, length);
        }
    }
}
