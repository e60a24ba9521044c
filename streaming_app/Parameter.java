package usedcars;

import java.io.Serializable;
import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.sql.catalyst.expressions.LeafExpression;
import org.apache.spark.sql.catalyst.expressions.Literal;
import org.apache.spark.sql.catalyst.expressions.codegen.CodegenContext;
import org.apache.spark.sql.catalyst.expressions.codegen.ExprCode;
import org.apache.spark.sql.catalyst.expressions.codegen.SimpleExprValue;
import org.apache.spark.sql.catalyst.plans.logical.LogicalPlan;
import org.apache.spark.sql.types.DataType;
import org.apache.spark.sql.types.DateType;
import org.apache.spark.sql.types.DoubleType;
import scala.runtime.AbstractPartialFunction;

/**
 * A number or date of a plan that its generated code is handed, as it is handed texts, and does not spell out.
 *
 * <p>Two versions of a model differ in what they have learned. With that out of the text of their code, the text is the
 * same, and Spark takes the class that it has compiled, and the JVM has warmed up with, for the other.
 */
public final class Parameter extends LeafExpression implements Serializable {
    private final Object value;
    private final DataType type;

    private Parameter(Literal literal) {
        value = literal.value();
        type = literal.dataType();
    }

    /** The plan with its numbers with a point and its dates as parameters. */
    public static LogicalPlan takenFrom(LogicalPlan plan) {
        return (LogicalPlan) plan.transformAllExpressions(new Replace());
    }

    private static final class Replace extends AbstractPartialFunction {
        public boolean isDefinedAt(Object expression) {
            return expression instanceof Literal && isLearned((Literal) expression);
        }

        public Object apply(Object expression) {
            return new Parameter((Literal) expression);
        }
    }

    private static boolean isLearned(Literal literal) {
        DataType type = literal.dataType();
        return literal.value() != null && (type instanceof DoubleType || type instanceof DateType);
    }

    public boolean nullable() {
        return false;
    }

    public DataType dataType() {
        return type;
    }

    public Object eval(InternalRow row) {
        return value;
    }

    public ExprCode doGenCode(CodegenContext context, ExprCode code) {
        boolean number = type instanceof DoubleType;
        String held = context.addReferenceObj("parameter", value, number ? "Double" : "Integer");
        String given = "(" + held + (number ? ").doubleValue()" : ").intValue()");
        return ExprCode.forNonNullValue(new SimpleExprValue(given, number ? Double.TYPE : Integer.TYPE));
    }

    public boolean canEqual(Object other) {
        return other instanceof Parameter;
    }

    public int productArity() {
        return 2;
    }

    public Object productElement(int place) {
        return place == 0 ? value : type;
    }

    public boolean equals(Object other) {
        return other instanceof Parameter && value.equals(((Parameter) other).value) && type.equals(((Parameter) other).type);
    }

    public int hashCode() {
        return value.hashCode();
    }
}
