"""TensorFlow operations a SavedModel may hold: arithmetic, and what saving and calling a model needs.

Absent on purpose: everything that reads or writes files on its own, runs Python, opens datasets or talks to a network.
`SaveV2` and `RestoreV2` belong to every SavedModel's own restore function, which conversion calls on the model's own
variables only.
"""

ALLOWED_OPERATIONS = frozenset(
    """
    Abs Add AddN AddV2 All Any ArgMax ArgMin AssignAddVariableOp AssignSubVariableOp AssignVariableOp Asin Acos Atan
    Atan2 AvgPool AvgPool3D BatchMatMul BatchMatMulV2 BatchMatMulV3 BatchToSpaceND BiasAdd Bitcast BroadcastArgs
    BroadcastTo Cast Ceil CheckNumerics ClipByValue Complex ComplexAbs Concat ConcatV2 Const Conv2D
    Conv2DBackpropInput Conv3D Conv3DBackpropInputV2 Cos Cosh Cumprod Cumsum DepthToSpace DepthwiseConv2dNative
    DisableCopyOnRead Div DivNoNan Einsum Elu EmptyTensorList EnsureShape Equal Erf Exp ExpandDims Expm1 Fill Floor
    FloorDiv FloorMod FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 Gather GatherNd GatherV2 Greater GreaterEqual
    Identity IdentityN If Imag IsFinite IsInf IsNan L2Loss LRN LeakyRelu Less LessEqual LinSpace Log Log1p LogicalAnd
    LogicalNot LogicalOr LogSoftmax MatMul MatrixBandPart MatrixDiag MatrixDiagV3 MatrixSetDiagV3 Max MaxPool
    MaxPool3D MaxPoolV2 Maximum Mean MergeV2Checkpoints Min Minimum MirrorPad Mod Mul MulNoNan Multinomial Neg NoOp
    NotEqual OneHot OnesLike Pack Pad PadV2 PartitionedCall Placeholder PlaceholderWithDefault Pow PreventGradient
    Prod Range Rank ReadVariableOp Real RealDiv Reciprocal Relu Relu6 Reshape ResizeBicubic ResizeBilinear
    ResizeNearestNeighbor ResourceGather RestoreV2 Reverse ReverseSequence ReverseV2 RFFT RFFT2D RightShift Rint Roll
    Round Rsqrt SaveV2 ScatterNd SegmentSum Select SelectV2 Selu Shape ShapeN ShardedFilename Sigmoid Sign Sin Sinh
    Size Slice Softmax Softplus Softsign SpaceToBatchND SpaceToDepth SparseToDense Split SplitV Sqrt Square
    SquaredDifference Squeeze StatefulPartitionedCall StatelessIf StatelessWhile StaticRegexFullMatch StopGradient
    StridedSlice StringJoin Sub Sum Tan Tanh TensorListConcatV2 TensorListElementShape TensorListFromTensor
    TensorListGather TensorListGetItem TensorListLength TensorListPushBack TensorListReserve TensorListResize
    TensorListSetItem TensorListStack Tile TopKV2 Transpose TruncateDiv Unique Unpack VarHandleOp VarIsInitializedOp
    VariableShape Where While Xdivy ZerosLike
    """.split()  # noqa: SIM905 a table of words reads better
)
