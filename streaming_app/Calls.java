package usedcars;

import java.util.Arrays;
import org.apache.spark.sql.Column;
import org.apache.spark.sql.catalyst.expressions.Expression;
import org.apache.spark.sql.catalyst.expressions.Literal;
import org.apache.spark.sql.catalyst.expressions.objects.Invoke;
import org.apache.spark.sql.catalyst.expressions.objects.StaticInvoke;
import org.apache.spark.sql.classic.ExpressionUtils;
import org.apache.spark.sql.types.DataType;
import org.apache.spark.sql.types.ObjectType;
import scala.Option;
import scala.collection.immutable.Seq;
import scala.jdk.javaapi.CollectionConverters;

/** Columns that the code which Spark generates gets by calling Java, with values as Spark has them in memory. */
public final class Calls {
    private Calls() {}

    /** Of a method of an object that travels with the plan, which gives the same for the same arguments. */
    public static Column of(Object object, String method, DataType type, Column[] arguments) {
        return ExpressionUtils.column(of(object, method, type, expressions(arguments)));
    }

    /** The same in a plan. */
    static Expression of(Object object, String method, DataType type, Expression[] arguments) {
        Literal target = Literal.fromObject(object, new ObjectType(object.getClass()));
        return new Invoke(target, method, type, seq(arguments), seq(new Expression[0]), true, true, true);
    }

    /** Of a static method, called anew for each row; not null. */
    public static Column anew(Class owner, String method, DataType type, Column[] arguments) {
        return ExpressionUtils.column(
            new StaticInvoke(
                owner, type, method, seq(expressions(arguments)), seq(new Expression[0]), true, false, false, Option.empty()));
    }

    private static Expression[] expressions(Column[] columns) {
        Expression[] expressions = new Expression[columns.length];
        for (int place = 0; place < columns.length; place++) {
            expressions[place] = ExpressionUtils.expression(columns[place]);
        }
        return expressions;
    }

    static Seq seq(Expression[] expressions) {
        return CollectionConverters.asScala(Arrays.asList(expressions)).toSeq();
    }
}
