from pyspark.ml.linalg import DenseVector, Vectors
from pyspark.sql import SparkSession

from usedcars_assets.pipeline.dense_vectors import dense_vectors


def test_a_sparse_vector_comes_out_dense_with_the_same_values(spark: SparkSession) -> None:
    rows = [(Vectors.sparse(4, {1: 2.5, 3: -1.0}),), (Vectors.dense(1.0, 0.0, 0.0, 7.0),)]
    table = spark.createDataFrame(rows, ["x"])
    found = [row.y for row in dense_vectors(spark, 4, "x", "y").transform(table).collect()]
    assert found == [DenseVector([0, 2.5, 0, -1]), DenseVector([1, 0, 0, 7])]
    assert all(isinstance(vector, DenseVector) for vector in found)
