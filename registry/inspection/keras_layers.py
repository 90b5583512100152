"""What a `.keras` file may be made of. Absent on purpose: layers that run code of the file's own (Lambda), load other
models (TFSMLayer, TorchModuleWrapper, JaxLayer, FlaxLayer) or read files (StringLookup, TextVectorization and kin).
"""

ALLOWED_LAYERS = frozenset(
    """
    Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D
    AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D Add AdditiveAttention AlphaDropout Attention
    Average AveragePooling1D AveragePooling2D AveragePooling3D BatchNormalization Bidirectional CategoryEncoding
    CenterCrop Concatenate Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D Conv3DTranspose ConvLSTM1D ConvLSTM2D
    ConvLSTM3D Cropping1D Cropping2D Cropping3D Dense DepthwiseConv1D DepthwiseConv2D Discretization Dot Dropout ELU
    EinsumDense Embedding Flatten GRU GRUCell GaussianDropout GaussianNoise GlobalAveragePooling1D
    GlobalAveragePooling2D GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D
    GroupNormalization GroupQueryAttention Identity InputLayer LSTM LSTMCell LayerNormalization LeakyReLU Masking
    MaxPooling1D MaxPooling2D MaxPooling3D Maximum MelSpectrogram Minimum MultiHeadAttention Multiply Normalization
    PReLU Permute RMSNormalization RNN RandomBrightness RandomContrast RandomCrop RandomFlip RandomHue RandomRotation
    RandomSaturation RandomTranslation RandomZoom ReLU RepeatVector Rescaling Reshape Resizing ReversibleEmbedding
    STFTSpectrogram SeparableConv1D SeparableConv2D SimpleRNN SimpleRNNCell Softmax SpatialDropout1D SpatialDropout2D
    SpatialDropout3D SpectralNormalization StackedRNNCells Subtract TimeDistributed UnitNormalization UpSampling1D
    UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D
    """.split()  # noqa: SIM905 a table of words reads better
)

ALLOWED_MODELS = frozenset({"Functional", "Sequential", "Model"})

# Configuration objects without behaviour of the file's own: Keras looks their names up in its own modules.
ALLOWED_HELPER_MODULES = (
    "keras.initializers",
    "keras.regularizers",
    "keras.constraints",
    "keras.activations",
    "keras.dtype_policies",
    "keras.random",
    "keras.ops",
    "keras.src.ops.",
    "keras.src.random.",
    "keras.src.initializers",
    "keras.src.activations",
)
ALLOWED_HELPERS = frozenset({"DTypePolicy", "DTypePolicyMap", "SeedGenerator", "FloatDTypePolicy"})
ALLOWED_VALUES = frozenset({"__tuple__", "__numpy__", "__tensor__", "__keras_tensor__", "__ellipsis__", "__slice__"})
