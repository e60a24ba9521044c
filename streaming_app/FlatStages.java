package usedcars;

import java.io.Serializable;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.spark.api.java.JavaSparkContext;
import org.apache.spark.ml.Transformer;
import org.apache.spark.ml.feature.CountVectorizerModel;
import org.apache.spark.ml.feature.StandardScalerModel;
import org.apache.spark.ml.feature.VectorAssembler;
import org.apache.spark.ml.feature.Word2VecModel;
import org.apache.spark.ml.linalg.SparseVector;
import org.apache.spark.ml.linalg.Vector;
import org.apache.spark.ml.regression.GBTRegressionModel;
import org.apache.spark.ml.regression.LinearRegressionModel;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.catalyst.expressions.UnsafeArrayData;
import org.apache.spark.sql.catalyst.util.ArrayData;
import org.apache.spark.unsafe.types.UTF8String;

/**
 * What stages that follow each other make of a row's numbers and words: their predictions, by one call.
 *
 * <p>Each of Spark's own hands its vector on as a value of the row: written, read and copied by the next. Here all
 * vectors of a row are parts of one array.
 */
public final class FlatStages implements Serializable {
    private final Map parts = new HashMap(); // of the array, by column: the vectors, and the predictions
    private final List numbers = new ArrayList();
    private final List words = new ArrayList();
    private final List predictions = new ArrayList();
    private Step[] steps = new Step[0];
    private int[] predicted = new int[0]; // places of the predictions
    private int length;
    private transient FlatCall call;

    /** Whether the column is a vector, or a prediction, of the stages. */
    public boolean makes(String column) {
        return parts.containsKey(column);
    }

    /**
     * Add a stage behind the others; false when it is of no kind that is known here, or takes numbers or words that
     * others do not, and is not `free` to.
     */
    public boolean add(Transformer stage, boolean free) {
        int taken = numbers.size() + words.size();
        return added(stage) && (free || numbers.size() + words.size() == taken);
    }

    private boolean added(Transformer stage) {
        if (stage instanceof VectorAssembler) {
            return assemble((VectorAssembler) stage);
        }
        if (stage instanceof Word2VecModel) {
            Word2VecModel model = (Word2VecModel) stage;
            append(new Encode(place(words, model.getInputCol()), model, part(model.getOutputCol(), model.getVectorSize())));
            return true;
        }
        if (stage instanceof CountVectorizerModel) {
            CountVectorizerModel model = (CountVectorizerModel) stage;
            if (!model.getBinary() || model.getMinTF() != 1) {
                return false;
            }
            append(new OneHot(place(words, model.getInputCol()), model, part(model.getOutputCol(), model.vocabulary().length)));
            return true;
        }
        if (stage instanceof StandardScalerModel) {
            StandardScalerModel model = (StandardScalerModel) stage;
            Part from = (Part) parts.get(model.getInputCol());
            if (from == null) {
                return false;
            }
            append(new Scale(from, model, part(model.getOutputCol(), from.length)));
            return true;
        }
        if (stage instanceof LinearRegressionModel) {
            LinearRegressionModel model = (LinearRegressionModel) stage;
            Part from = (Part) parts.get(model.getFeaturesCol());
            if (from == null) {
                return false;
            }
            append(new Line(from, model, predicts(model.getPredictionCol())));
            return true;
        }
        if (stage instanceof GBTRegressionModel) {
            GBTRegressionModel model = (GBTRegressionModel) stage;
            Part from = (Part) parts.get(model.getFeaturesCol());
            if (from == null || !FlatTrees.fit(model)) {
                return false;
            }
            append(new Trees(from, new FlatTrees(model), predicts(model.getPredictionCol())));
            return true;
        }
        return false;
    }

    /** The columns with the numbers that it takes: 64-bit floats, NaN where there is none. */
    public String[] numbers() {
        return (String[]) numbers.toArray(new String[0]);
    }

    /** The columns with the words that it takes: arrays of text. */
    public String[] words() {
        return (String[]) words.toArray(new String[0]);
    }

    /** The columns that it makes: 64-bit floats. */
    public String[] predictions() {
        return (String[]) predictions.toArray(new String[0]);
    }

    /** What a plan calls, once all stages are added. */
    public FlatCall call(JavaSparkContext spark) {
        if (call == null) {
            call = new FlatCall(spark.broadcast(this));
        }
        return call;
    }

    /** The predictions for a row. */
    public ArrayData predict(ArrayData numbers, ArrayData words) {
        double[] given = numbers.toDoubleArray();
        double[] values = new double[length];
        for (int step = 0; step < steps.length; step++) {
            steps[step].apply(given, words, values);
        }
        double[] predictions = new double[predicted.length];
        for (int place = 0; place < predicted.length; place++) {
            predictions[place] = values[predicted[place]];
        }
        return UnsafeArrayData.fromPrimitiveArray(predictions);
    }

    private boolean assemble(VectorAssembler stage) {
        if (!stage.getHandleInvalid().equals("keep")) {
            return false;
        }
        String[] inputs = stage.getInputCols();
        int size = 0;
        for (int input = 0; input < inputs.length; input++) {
            Part known = (Part) parts.get(inputs[input]);
            size += known == null ? 1 : known.length;
        }
        Part whole = part(stage.getOutputCol(), size);
        int at = whole.from;
        for (int input = 0; input < inputs.length; input++) {
            Part known = (Part) parts.get(inputs[input]);
            if (known == null) {
                append(new Number(place(numbers, inputs[input]), at));
                at++;
            } else {
                append(new Copy(known, at));
                at += known.length;
            }
        }
        return true;
    }

    private void append(Step step) {
        steps = (Step[]) Arrays.copyOf(steps, steps.length + 1);
        steps[steps.length - 1] = step;
    }

    private static int place(List columns, String column) {
        if (!columns.contains(column)) {
            columns.add(column);
        }
        return columns.indexOf(column);
    }

    private Part part(String column, int size) {
        Part added = new Part(length, size);
        parts.put(column, added);
        length += size;
        return added;
    }

    private int predicts(String column) {
        int at = part(column, 1).from;
        predictions.add(column);
        predicted = Arrays.copyOf(predicted, predicted.length + 1);
        predicted[predicted.length - 1] = at;
        return at;
    }

    /** Of the array of a row's vectors. */
    private static final class Part implements Serializable {
        final int from;
        final int length;

        Part(int from, int length) {
            this.from = from;
            this.length = length;
        }
    }

    private abstract static class Step implements Serializable {
        abstract void apply(double[] given, ArrayData words, double[] values);
    }

    private static final class Number extends Step {
        private final int place;
        private final int at;

        Number(int place, int at) {
            this.place = place;
            this.at = at;
        }

        void apply(double[] given, ArrayData words, double[] values) {
            values[at] = given[place];
        }
    }

    private static final class Copy extends Step {
        private final Part part;
        private final int at;

        Copy(Part part, int at) {
            this.part = part;
            this.at = at;
        }

        void apply(double[] given, ArrayData words, double[] values) {
            System.arraycopy(values, part.from, values, at, part.length);
        }
    }

    /** The mean of the vectors of the words that have one, as if the others had that of zeros. */
    private static final class Encode extends Step {
        private final int place;
        private final HashMap vectors = new HashMap(); // of a word: the values that are not zero
        private final Part part;

        Encode(int place, Word2VecModel model, Part part) {
            this.place = place;
            this.part = part;
            Row[] rows = (Row[]) model.getVectors().collect();
            for (int row = 0; row < rows.length; row++) {
                SparseVector vector = ((Vector) rows[row].get(1)).toSparse();
                vectors.put(UTF8String.fromString(rows[row].getString(0)), vector);
            }
        }

        void apply(double[] given, ArrayData words, double[] values) {
            ArrayData own = words.getArray(place);
            int count = own.numElements();
            if (count == 0) {
                return;
            }
            for (int word = 0; word < count; word++) {
                SparseVector vector = own.isNullAt(word) ? null : (SparseVector) vectors.get(own.getUTF8String(word));
                if (vector != null) {
                    int[] places = vector.indices();
                    double[] added = vector.values();
                    for (int place = 0; place < places.length; place++) {
                        values[part.from + places[place]] += added[place];
                    }
                }
            }
            double share = 1.0 / count;
            for (int place = part.from; place < part.from + part.length; place++) {
                values[place] *= share;
            }
        }
    }

    private static final class OneHot extends Step {
        private final int place;
        private final HashMap places = new HashMap();

        OneHot(int place, CountVectorizerModel model, Part part) {
            this.place = place;
            String[] vocabulary = model.vocabulary();
            for (int word = 0; word < vocabulary.length; word++) {
                places.put(UTF8String.fromString(vocabulary[word]), Integer.valueOf(part.from + word));
            }
        }

        void apply(double[] given, ArrayData words, double[] values) {
            ArrayData own = words.getArray(place);
            for (int word = 0; word < own.numElements(); word++) {
                Integer at = own.isNullAt(word) ? null : (Integer) places.get(own.getUTF8String(word));
                if (at != null) {
                    values[at.intValue()] = 1;
                }
            }
        }
    }

    private static final class Scale extends Step {
        private final Part from;
        private final double[] means; // zeros where they are not taken away
        private final double[] factors;
        private final Part to;

        Scale(Part from, StandardScalerModel model, Part to) {
            this.from = from;
            this.to = to;
            means = model.getWithMean() ? model.mean().toArray() : new double[from.length];
            factors = model.getWithStd() ? model.std().toArray() : new double[from.length];
            for (int place = 0; place < factors.length; place++) {
                double deviation = factors[place];
                factors[place] = !model.getWithStd() ? 1 : deviation == 0 ? 0 : 1 / deviation;
            }
        }

        void apply(double[] given, ArrayData words, double[] values) {
            for (int place = 0; place < means.length; place++) {
                values[to.from + place] = (values[from.from + place] - means[place]) * factors[place];
            }
        }
    }

    private static final class Line extends Step {
        private final Part from;
        private final double[] coefficients;
        private final double intercept;
        private final int at;

        Line(Part from, LinearRegressionModel model, int at) {
            this.from = from;
            this.coefficients = model.coefficients().toArray();
            this.intercept = model.intercept();
            this.at = at;
        }

        void apply(double[] given, ArrayData words, double[] values) {
            double sum = 0;
            for (int place = 0; place < coefficients.length; place++) {
                sum += coefficients[place] * values[from.from + place];
            }
            values[at] = sum + intercept;
        }
    }

    private static final class Trees extends Step {
        private final Part from;
        private final FlatTrees trees;
        private final int at;

        Trees(Part from, FlatTrees trees, int at) {
            this.from = from;
            this.trees = trees;
            this.at = at;
        }

        void apply(double[] given, ArrayData words, double[] values) {
            values[at] = trees.predict(values, from.from, from.length);
        }
    }
}
