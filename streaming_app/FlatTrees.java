package usedcars;

import java.io.Serializable;
import org.apache.spark.ml.regression.GBTRegressionModel;
import org.apache.spark.ml.tree.ContinuousSplit;
import org.apache.spark.ml.tree.InternalNode;
import org.apache.spark.ml.tree.Node;

/**
 * A boosted ensemble whose trees lie in one array, and are walked four at a time.
 *
 * <p>Spark's own are objects that lie anywhere: each look at a node waits for memory, and then for the processor,
 * which guessed the wrong child every other time. Here a child is computed instead of chosen, and the looks at four
 * trees wait together (Asadi, Lin and de Vries, "Runtime Optimizations for Tree-Based Machine Learning Models", 2014).
 */
public final class FlatTrees implements Serializable {
    private static final int LONGS_A_NODE = 2;
    private static final int AT_ONCE = 4;

    // A split: the key of its threshold, then its feature (upper half) and the place of its right child (lower half);
    // its left child comes next. A leaf: what no key is below, then its own place, so that a walk stays there.
    private final long[] nodes;
    private final double[] leaves; // by place: the value times the weight of the tree
    private final int[] roots; // of leaves without value, where the last trees are not as many as others
    private final int[] depths; // of the deepest of so many trees

    /** Whether the trees can be laid flat: they split by numbers only, and nobody asks for their leaves. */
    public static boolean fit(GBTRegressionModel model) {
        boolean fits = model.getLeafCol().isEmpty();
        for (int tree = 0; fits && tree < model.getNumTrees(); tree++) {
            fits = splitsByNumbers(model.getTree(tree).rootNode());
        }
        return fits;
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

    /** Of a model that fits. */
    public FlatTrees(GBTRegressionModel model) {
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

    /** The sum of the leaves that the features lead to, `length` of the values from `from` on. */
    public double predict(double[] values, int from, int length) {
        long[] keys = new long[length];
        for (int feature = 0; feature < length; feature++) {
            keys[feature] = key(values[from + feature]);
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
}
