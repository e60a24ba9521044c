package usedcars;

import org.apache.spark.ml.linalg.Vector;
import org.apache.spark.ml.param.ParamMap;
import org.apache.spark.ml.regression.DecisionTreeRegressionModel;
import org.apache.spark.ml.regression.GBTRegressionModel;
import org.apache.spark.ml.tree.ContinuousSplit;
import org.apache.spark.ml.tree.InternalNode;
import org.apache.spark.ml.tree.Node;
import org.apache.spark.ml.util.MLWriter;

/**
 * A boosted ensemble whose trees lie in one array, and are walked four at a time.
 *
 * <p>Spark's own are objects that lie anywhere: each look at a node waits for memory, and then for the processor,
 * which guessed the wrong child every other time. Here a child is computed instead of chosen, and the looks at four
 * trees wait together (Asadi, Lin and de Vries, "Runtime Optimizations for Tree-Based Machine Learning Models", 2014).
 */
public final class FlatTrees extends GBTRegressionModel {
    private static final int LONGS_A_NODE = 2;
    private static final int AT_ONCE = 4;

    // A split: the key of its threshold, then its feature (upper half) and the place of its right child (lower half);
    // its left child comes next. A leaf: what no key is below, then its own place, so that a walk stays there.
    private final long[] nodes;
    private final double[] leaves; // by place: the value times the weight of the tree
    private final int[] roots; // of leaves without value, where the last trees are not as many as others
    private final int[] depths; // of the deepest of so many trees

    /** The same model, or the very one where a tree splits by categories or its leaves are asked for. */
    public static GBTRegressionModel of(GBTRegressionModel model) {
        boolean fits = model.getLeafCol().isEmpty();
        for (int tree = 0; fits && tree < model.getNumTrees(); tree++) {
            fits = splitsByNumbers(model.getTree(tree).rootNode());
        }
        return fits ? (GBTRegressionModel) model.copyValues(new FlatTrees(model), ParamMap.empty()) : model;
    }

    private static boolean splitsByNumbers(Node node) {
        if (!(node instanceof InternalNode)) {
            return true;
        }
        InternalNode inner = (InternalNode) node;
        return inner.split() instanceof ContinuousSplit
            && splitsByNumbers(inner.leftChild())
            && splitsByNumbers(inner.rightChild());
    }

    // Of Spark's form one tree is kept, which it wants: the model travels with each query.
    private FlatTrees(GBTRegressionModel model) {
        super(
            model.uid(),
            new DecisionTreeRegressionModel[] {(DecisionTreeRegressionModel) model.getTree(0)},
            new double[] {model.treeWeights()[0]},
            model.numFeatures());
        int trees = model.getNumTrees();
        int groups = (trees + AT_ONCE - 1) / AT_ONCE;
        int size = groups * AT_ONCE - trees;
        for (int tree = 0; tree < trees; tree++) {
            size += 1 + model.getTree(tree).rootNode().numDescendants();
        }
        nodes = new long[LONGS_A_NODE * size];
        leaves = new double[size];
        roots = new int[groups * AT_ONCE];
        depths = new int[groups];
        int at = 0;
        for (int tree = 0; tree < roots.length; tree++) {
            roots[tree] = at;
            if (tree < trees) {
                Node root = model.getTree(tree).rootNode();
                depths[tree / AT_ONCE] = Math.max(depths[tree / AT_ONCE], root.subtreeDepth());
                at = place(root, model.treeWeights()[tree], at);
            } else {
                at = placeLeaf(0, at);
            }
        }
    }

    private FlatTrees(FlatTrees model) {
        super(
            model.uid(),
            new DecisionTreeRegressionModel[] {(DecisionTreeRegressionModel) model.getTree(0)},
            new double[] {model.treeWeights()[0]},
            model.numFeatures());
        nodes = model.nodes;
        leaves = model.leaves;
        roots = model.roots;
        depths = model.depths;
    }

    private int place(Node node, double weight, int at) {
        if (!(node instanceof InternalNode)) {
            return placeLeaf(node.prediction() * weight, at);
        }
        InternalNode inner = (InternalNode) node;
        ContinuousSplit split = (ContinuousSplit) inner.split();
        int right = place(inner.leftChild(), weight, at + LONGS_A_NODE);
        nodes[at] = key(split.threshold());
        nodes[at + 1] = ((long) split.featureIndex() << 32) | right;
        return place(inner.rightChild(), weight, right);
    }

    private int placeLeaf(double value, int at) {
        nodes[at] = Long.MIN_VALUE;
        nodes[at + 1] = at;
        leaves[at / LONGS_A_NODE] = value;
        return at + LONGS_A_NODE;
    }

    /** Whole numbers in the order of the doubles, which the JVM compares without a branch; NaN is above all. */
    private static long key(double value) {
        long bits = Double.doubleToLongBits(value + 0.0); // as -0.0 is 0.0
        return bits ^ ((bits >> 63) & Long.MAX_VALUE);
    }

    private static int child(long[] nodes, long[] keys, int at) {
        long way = nodes[at + 1];
        return keys[(int) (way >>> 32)] <= nodes[at] ? at + LONGS_A_NODE : (int) way;
    }

    /** The sum of the leaves that the features lead to. */
    public double predict(Vector features) {
        double[] values = features.toArray();
        long[] keys = new long[values.length];
        for (int feature = 0; feature < values.length; feature++) {
            keys[feature] = key(values[feature]);
        }
        long[] nodes = this.nodes;
        double sum = 0;
        for (int tree = 0; tree < roots.length; tree += AT_ONCE) {
            int first = roots[tree];
            int second = roots[tree + 1];
            int third = roots[tree + 2];
            int fourth = roots[tree + 3];
            for (int looks = depths[tree / AT_ONCE]; looks > 0; looks--) {
                first = child(nodes, keys, first);
                second = child(nodes, keys, second);
                third = child(nodes, keys, third);
                fourth = child(nodes, keys, fourth);
            }
            sum += leaves[first / LONGS_A_NODE];
            sum += leaves[second / LONGS_A_NODE];
            sum += leaves[third / LONGS_A_NODE];
            sum += leaves[fourth / LONGS_A_NODE];
        }
        return sum;
    }

    /** With other parameters. */
    public GBTRegressionModel copy(ParamMap extra) {
        return (GBTRegressionModel) copyValues(new FlatTrees(this), extra);
    }

    /** Never: it would write the one tree that is left. */
    public MLWriter write() {
        throw new UnsupportedOperationException("flat trees are for scoring: save the model that they were made of");
    }
}
